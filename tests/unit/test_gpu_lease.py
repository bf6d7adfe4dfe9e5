"""Concurrent processes get distinct devices, of all users; a killed holder frees its own."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import await_true

from weight_atlas.errors import AtlasError
from weight_atlas.workflow import gpu_locks
from weight_atlas.workflow.gpu_lease import lease
from weight_atlas.workflow.gpu_locks import ALONE, shared_folder, try_lock
from weight_atlas.workflow.gpus import Device


@pytest.fixture(autouse=True)
def two_devices(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # without the driver's program
    for name in ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "FLUX_JOB_ID"):
        monkeypatch.delenv(name, raising=False)


def free(count, folder, **of):
    """The names of a lease that is had at once, else None."""
    try:
        with lease(count, folder=folder, timeout=0, **of) as names:
            return names
    except AtlasError:
        return None


def test_nested_leases_are_distinct_and_the_environment_comes_back(tmp_path):
    with lease(1, folder=tmp_path) as first:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == first[0]
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
        with lease(1, folder=tmp_path) as second:
            assert {*first, *second} == {"0", "1"}
        with lease(1, folder=tmp_path), pytest.raises(AtlasError, match="offers 1"), lease(2, folder=tmp_path):
            pass
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert not list(tmp_path.iterdir())


def test_all_or_nothing(tmp_path):
    with lease(1, folder=tmp_path):
        os.environ["CUDA_VISIBLE_DEVICES"] = "0,1"
        with pytest.raises(AtlasError, match="no 2 free"), lease(2, folder=tmp_path, timeout=0.1):
            pass
        assert free(1, tmp_path) == ["1"]


def test_sixty_processes_share_two_devices_and_some_are_killed(tmp_path):
    crowd = Path(__file__).with_name("crowd_of_leases.py")
    command = [sys.executable, crowd, tmp_path, "60", "0.05", "15"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=True)
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["held twice"] == 0 and seen["killed"] > 0
    assert seen["done"] + seen["killed"] == seen["processes"] == 60


def test_a_file_that_goes_before_it_is_locked_is_no_lock(tmp_path, monkeypatch):
    path, opened, others = tmp_path / "0.lock", gpu_locks._open, []
    first = try_lock(path, ALONE)

    def opened_as_it_goes(given):
        descriptor = opened(given)
        monkeypatch.setattr(gpu_locks, "_open", opened)
        first.release()
        others.append(try_lock(path, ALONE))
        return descriptor

    monkeypatch.setattr(gpu_locks, "_open", opened_as_it_goes)
    assert try_lock(path, ALONE) is None
    others[0].release()


def test_a_killed_holder_frees_its_device_and_the_log_says_who_is_waited_for(tmp_path, capfd):
    holding = f"""if True:
        import time, pathlib
        from weight_atlas.workflow.gpu_lease import lease
        with lease(2, folder=pathlib.Path({str(tmp_path)!r})):
            print("held", flush=True)
            time.sleep(600)"""
    holder = subprocess.Popen([sys.executable, "-c", holding], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(AtlasError), lease(1, folder=tmp_path, timeout=0.1):
        pass
    holder.kill()
    with lease(2, folder=tmp_path, timeout=600) as freed:
        assert freed == ["0", "1"]
    holder.wait()
    said = capfd.readouterr().out
    assert f"waiting for 1 of 2 GPU(s): 0 (held by process {holder.pid} of " in said


def test_more_devices_than_there_are(tmp_path):
    with pytest.raises(AtlasError, match=r"asks for 3 GPU\(s\), the machine offers 2"), lease(3, folder=tmp_path):
        pass


def test_the_card_with_the_least_memory_in_use_is_taken_first(tmp_path):
    devices = [Device("a", "a", used=900), Device("b", "b", used=3), Device("c", "c", used=40)]
    with lease(1, devices=devices, folder=tmp_path) as first, lease(1, devices=devices, folder=tmp_path) as second:
        assert (first, second) == (["b"], ["c"])


def test_a_card_is_leased_once_whatever_it_is_called(tmp_path):
    with lease(1, devices=[Device("0", "GPU-x")], folder=tmp_path):
        assert free(1, tmp_path, devices=[Device("GPU-x", "GPU-x")]) is None


def test_slices_are_leased_by_themselves_and_never_beside_their_card(tmp_path):
    whole = [Device("GPU-x", "GPU-x")]
    first, second = ([Device(name, "GPU-x", name)] for name in ("MIG-1", "MIG-2"))
    with lease(1, devices=first, folder=tmp_path):
        assert free(1, tmp_path, devices=second) == ["MIG-2"]
        assert free(1, tmp_path, devices=first) is None
        assert free(1, tmp_path, devices=whole) is None
    with lease(1, devices=whole, folder=tmp_path):
        assert free(1, tmp_path, devices=second) is None
    assert free(1, tmp_path, devices=whole) == ["GPU-x"]


def test_a_job_that_a_cluster_gave_its_own_devices_waits_for_no_other_job(tmp_path, monkeypatch):
    with lease(2, folder=tmp_path):
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        assert free(2, tmp_path) == ["0", "1"]
        with lease(2, folder=tmp_path):  # but members of one job do
            assert free(1, tmp_path, devices=[Device("0", "0")]) is None
        # A cluster that counts no devices: its jobs share those of the machine.
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        assert free(1, tmp_path, devices=[Device("0", "0")]) is None


def test_the_folder_is_everybodys_whoever_makes_it_and_whatever_stands_in_its_place(tmp_path):
    before = os.umask(0o077)
    try:
        assert shared_folder("locks", tmp_path) == shared_folder("locks", tmp_path) == tmp_path / "locks"
        lock = try_lock(tmp_path / "locks" / "0.lock", ALONE)
    finally:
        os.umask(before)
    assert stat.filemode((tmp_path / "locks").stat().st_mode) == "drwxrwxrwt"
    assert stat.S_IMODE(lock.path.stat().st_mode) == 0o666
    lock.release()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere").chmod(0o1777)
    (tmp_path / "mine").mkdir(mode=0o755)
    (tmp_path / "mine-1").symlink_to("elsewhere")
    (tmp_path / "mine-2").touch()
    assert shared_folder("mine", tmp_path) == tmp_path / "mine-3"


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming other users needs root")
def test_other_users_wait_and_take_over(tmp_path):
    """With the folder and files of one user, in a place that both reach."""
    place = shared_folder(f"weight-atlas-test-{os.getpid()}")
    asking = f"""if True:
        import pathlib, sys
        sys.path.insert(0, {str(Path(gpu_locks.__file__).parents[2])!r})
        from weight_atlas.workflow.gpu_locks import ALONE, try_lock
        print(try_lock(pathlib.Path({str(place / "0.lock")!r}), ALONE) is not None)"""

    def as_user(number):
        command = ["setpriv", f"--reuid={number}", f"--regid={number}", "--clear-groups", sys.executable, "-c", asking]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "HOME": "/"})
        return done.stdout.strip() == "True"

    try:
        lock = try_lock(place / "0.lock", ALONE)
        assert not as_user(4242)
        lock.release()
        assert as_user(4242)  # and leaves its file
        assert (place / "0.lock").stat().st_uid == 4242
        lock = try_lock(place / "0.lock", ALONE)
        assert not as_user(4343)
        lock.release()
    finally:
        for path in place.iterdir():
            path.unlink()
        place.rmdir()


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "another name"])
def test_what_is_no_lock_is_refused_and_not_followed(tmp_path, kind):
    precious, path = tmp_path / "precious", tmp_path / "0.lock"
    precious.write_text("x")
    os.utime(precious, (1, 1))
    {
        "link": lambda: path.symlink_to(precious),
        "pipe": lambda: os.mkfifo(path),
        "folder": path.mkdir,
        "another name": lambda: path.hardlink_to(precious),
    }[kind]()
    with pytest.raises(AtlasError, match=r"cannot be opened[^$]*0\.lock"), lease(1, folder=tmp_path):
        pass
    assert precious.stat().st_mtime == 1


def test_a_file_that_a_cleaner_takes_is_put_back_and_stays_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_locks, "_KEPT_EVERY", 0.02)
    path, only = tmp_path / "0.lock", [Device("0", "0")]
    with lease(1, devices=only, folder=tmp_path):
        os.utime(path, (1, 1))
        await_true(lambda: path.stat().st_mtime > 1)  # never old
        path.unlink()
        await_true(path.exists)
        await_true(lambda: free(1, tmp_path, devices=only) is None)
    assert free(1, tmp_path, devices=only) == ["0"]


def test_the_kernels_table_tells_who_holds_a_file(tmp_path):
    lock = try_lock(tmp_path / "0.lock", ALONE)
    assert gpu_locks.holders()[lock.path.stat().st_ino] == os.getpid()
    lock.release()
