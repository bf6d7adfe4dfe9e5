"""Files that are others than before, though their sizes and times are as they were."""

import os
from pathlib import Path

import pytest

from weight_atlas import file_states
from weight_atlas.file_states import states_of
from weight_atlas.tokens.sources import source_state


def write(path: Path, content: bytes) -> Path:
    """A file whose time is always the same."""
    path.write_bytes(content)
    os.utime(path, ns=(10**18, 10**18))
    return path


@pytest.mark.parametrize("place", [0, 5_000, 30_001, 59_999])
def test_one_other_byte_of_a_text_shows(tmp_path, place):
    content = bytearray(60_000)
    write(tmp_path / "text.txt", content)
    before = source_state(str(tmp_path / "*.txt"))
    content[place] = 1
    write(tmp_path / "text.txt", content)
    after = source_state(str(tmp_path / "*.txt"))
    assert before.keys() == after.keys() and before != after


def test_files_are_compared_whole_up_to_a_sum_and_in_blocks_beyond(tmp_path, monkeypatch):
    monkeypatch.setattr(file_states, "_WHOLE", 20_000)
    sizes = {"a": 15_000, "b": 15_000, "c": 5_000}  # b has no room after a, c has
    paths = [write(tmp_path / name, bytes(size)) for name, size in sizes.items()]
    before = states_of(paths)
    between = 612  # after b's first block
    for name, size in sizes.items():
        write(tmp_path / name, bytes(between) + b"x" + bytes(size - between - 1))
    changed = {Path(path).name for path, state in states_of(paths).items() if state != before[path]}
    assert changed == {"a", "c"}
    write(tmp_path / "b", b"x" + bytes(sizes["b"] - 1))
    assert states_of(paths)[str(paths[1])] != before[str(paths[1])]


def test_no_more_than_some_files_are_opened(tmp_path, monkeypatch):
    monkeypatch.setattr(file_states, "_OPENED", 2)
    paths = [write(tmp_path / name, b"1") for name in "abc"]
    before = states_of(paths)
    for path in paths:
        write(path, b"2")
    assert [states_of(paths)[str(path)] != before[str(path)] for path in paths] == [True, True, False]


def test_what_is_no_plain_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    states = states_of([tmp_path / "pipe", tmp_path, tmp_path / "missing"])
    assert list(states) == [str(tmp_path / "pipe"), str(tmp_path), str(tmp_path / "missing")]
    assert states[str(tmp_path / "missing")] == "unreadable: No such file or directory"
