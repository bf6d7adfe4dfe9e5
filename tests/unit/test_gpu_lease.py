"""Concurrent processes get distinct devices; a killed holder frees its own."""

import multiprocessing
import os
import signal
import time

import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.workflow.gpu_lease import lease, visible_devices

spawn = multiprocessing.get_context("spawn")


@pytest.fixture
def two_devices(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")


def hold_one(folder, queue, seconds):
    with lease(1, folder=folder) as (device,):
        queue.put((device, os.environ["CUDA_VISIBLE_DEVICES"], time.monotonic()))
        time.sleep(seconds)
        queue.put((device, None, time.monotonic()))


def test_visible_devices_follow_the_environment(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-ab, 3")
    assert visible_devices() == ["GPU-ab", "3"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_devices() == []


def test_nested_leases_are_distinct_and_the_environment_comes_back(two_devices, tmp_path):
    with lease(1, folder=tmp_path) as first:
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
        with lease(1, folder=tmp_path) as second:
            assert {*first, *second} == {"0", "1"}
        with lease(1, folder=tmp_path), pytest.raises(AtlasError, match="offers 1"), lease(2, folder=tmp_path):
            pass
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_all_or_nothing(two_devices, tmp_path):
    with lease(1, folder=tmp_path):
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
        with pytest.raises(AtlasError, match="no 2 free"), lease(2, folder=tmp_path, timeout=0.1):
            pass
        with lease(1, folder=tmp_path, timeout=0.1) as other:
            assert other == ["1"]


def test_processes_wait_for_each_other_and_for_the_dead(two_devices, tmp_path):
    queue = spawn.Queue()
    holders = [spawn.Process(target=hold_one, args=(tmp_path, queue, 600)) for _ in range(2)]
    for process in holders:
        process.start()
    taken = {queue.get(timeout=300)[0] for _ in holders}
    assert taken == {"0", "1"}
    with pytest.raises(AtlasError), lease(1, folder=tmp_path, timeout=0.1):
        pass
    os.kill(holders[0].pid, signal.SIGKILL)
    with lease(1, folder=tmp_path, timeout=300) as freed:
        assert len(freed) == 1
    holders[1].kill()
    for process in holders:
        process.join()


def test_more_devices_than_there_are(two_devices, tmp_path):
    with pytest.raises(AtlasError, match=r"asks for 3 GPU\(s\), the machine offers 2"), lease(3, folder=tmp_path):
        pass
