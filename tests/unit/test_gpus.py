"""Devices by all names that CUDA and its driver give them, read from a stand-in for nvidia-smi."""

import pytest

from weight_atlas.workflow.gpus import visible_devices

FIRST, SECOND = "GPU-11111111-aaaa", "GPU-22222222-bbbb"
SLICES = ["MIG-33333333-cccc", "MIG-44444444-dddd"]
LIST = f"""\
GPU 0: NVIDIA A100 (UUID: {FIRST})
GPU 1: NVIDIA A100 (UUID: {SECOND})
  MIG 3g.20gb     Device  0: (UUID: {SLICES[0]})
  MIG 3g.20gb     Device  1: (UUID: {SLICES[1]})
"""


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """Puts a nvidia-smi on the path that tells of two cards, the second cut into slices if asked for."""

    def install(*, used=("0", "0"), sliced=False):
        rows = f"0, {FIRST}, {used[0]}, Disabled\n1, {SECOND}, {used[1]}, {'Enabled' if sliced else '[N/A]'}\n"
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\ncase $1 in --list-gpus) printf '{LIST}';; *) printf '{rows}';; esac\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return install


def named(monkeypatch, text):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", text)
    return [(device.name, device.card, device.slice) for device in visible_devices()]


def test_without_a_word_all_cards_by_uuids_whatever_order_cuda_gives_them(driver):
    driver(used=("300", "20"))
    assert [(device.name, device.used) for device in visible_devices()] == [(FIRST, 300), (SECOND, 20)]


def test_a_card_is_the_same_by_index_uuid_and_beginning_of_its_uuid(driver, monkeypatch):
    driver()
    for name in ("1", "01", SECOND, "GPU-2"):
        assert named(monkeypatch, name) == [(name, SECOND, "")]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("0,-1,1", ["0"]),  # as CUDA reads it
        ("-1", []),
        ("", []),
        ("0,,1", ["0"]),
        ("1, 0", ["1", "0"]),
        ("0,7,1", ["0"]),  # no such card
        ("0,GPU-9,1", ["0"]),
        ("GPU-", []),  # begins more than one
        (f"0,{FIRST}", []),  # named twice
        ("NoDevFiles", []),  # a cluster's word for none
    ],
)
def test_names_count_up_to_the_first_that_is_no_device(driver, monkeypatch, text, names):
    driver()
    assert [name for name, *_ in named(monkeypatch, text)] == names


def test_slices_take_the_place_of_the_card_that_they_are_cut_from(driver, monkeypatch):
    driver(sliced=True)
    assert [(device.name, device.card, device.slice) for device in visible_devices()] == [
        (FIRST, FIRST, ""),
        *[(name, SECOND, name) for name in SLICES],
    ]
    assert named(monkeypatch, "MIG-4") == [("MIG-4", SECOND, SLICES[1])]
    assert named(monkeypatch, "1") == [("1", SECOND, SLICES[0])]  # the one that CUDA takes
    older = f"MIG-{SECOND}/1/0"  # which of the slices, this driver does not say
    assert named(monkeypatch, older) == [(older, SECOND, "")]


def test_without_a_driver_names_stand_for_themselves(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert named(monkeypatch, "GPU-ab, 3") == [("GPU-ab", "GPU-ab", ""), ("3", "3", "")]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert visible_devices() == []


def test_a_driver_that_fails_has_no_cards(driver, tmp_path, monkeypatch):
    driver()
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho No devices were found\nexit 6\n")
    assert visible_devices() == []
