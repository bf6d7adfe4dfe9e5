"""Hundreds of bad inputs, each made of a valid one: every one ends in one message that names the file and the remedy.

tests/hostile makes them; in this process, under a limit of memory and of time for each.
"""

import json
import os
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import pyarrow
import pytest
from hostile import archives, configurations, corpora, gguf_files, headers, settings, tasks, token_weights, tokenizers
from hostile.campaign import MEMORY, SECONDS, bad_files, in_use, outcome
from hostile.readers import READERS
from hostile.valid import VALID
from hostile.valid_models import CONFIG, as_json
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

GROUPS = {
    "safetensors headers": headers.safetensors_headers,
    "shard indexes": headers.indexes,
    "configurations of models": configurations.configurations,
    "quantizations": configurations.quantizations,
    "adapters": configurations.adapters,
    "models that are run": configurations.live,
    "PyTorch files": archives.pickles,
    "GGUF files": gguf_files.gguf_files,
    "corpora": corpora.corpora,
    "tokenizers": tokenizers.tokenizers,
    "patterns that take for ever": tokenizers.slow_patterns,
    "weights of tokens": token_weights.token_weights,
    "settings": settings.settings,
    "tasks": tasks.tasks,
}

# Tasks alone need lm-evaluation-harness, which takes seconds to import.
SLOW = {"task", "tasks"}


def marked(names):
    return [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in names]


@contextmanager
def limited():
    """No more memory than a few times what the tiny files need, and an end to what takes for ever."""
    pyarrow.array(range(9))  # whose memory is set aside with the first array, more than a case may take
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use() + MEMORY, hard))
    before = signal.signal(signal.SIGALRM, _end)
    signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)  # of a machine that is busy
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _end(signum, frame):
    raise TimeoutError("it takes too long")


def said_of(kind: str, files: dict[str, bytes], folder: Path) -> str:
    """What an input ends with; only its own files are in the folder."""
    for old in folder.iterdir():
        old.unlink() if old.is_file() else old.rmdir()
    if kind in SLOW:  # so that no library is imported within the limit
        outcome(kind, VALID[kind](), folder)
    with limited():
        return outcome(kind, files, folder)


@pytest.mark.parametrize("kind", marked(VALID))
def test_the_inputs_that_are_made_bad_are_good(tmp_path, kind):
    assert said_of(kind, VALID[kind](), tmp_path) == "accepted"


@pytest.mark.parametrize("group", marked(GROUPS))
def test_each_is_one_clear_message(tmp_path, monkeypatch, group):
    monkeypatch.chdir(tmp_path.parent)
    monkeypatch.setattr("weight_atlas.ablations.untrusted._SECONDS", 0.2)
    said = {name: said_of(kind, files, tmp_path) for name, kind, files in GROUPS[group]()}
    assert not {name: outcome for name, outcome in said.items() if outcome != "clear"}
    assert not (tmp_path.parent / "ran").exists(), "code of an input ran"


def test_there_are_hundreds():
    names = [name for group in GROUPS.values() for name, _, _ in group()]
    assert len(names) >= 300 and len(set(names)) == len(names)


@pytest.mark.parametrize("kind", marked(VALID))
def test_mutated_files_are_read_or_refused_clearly(tmp_path, kind):
    said = {seed: said_of(kind, bad_files(kind, seed), tmp_path) for seed in range(8)}
    assert not {seed: outcome for seed, outcome in said.items() if outcome not in ("clear", "accepted")}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("safetensors_model", "model.safetensors"), ("safetensors_model", "config.json"),
        ("sharded_model", "model.safetensors.index.json"), ("pytorch_model", "pytorch_model.bin"),
        ("gguf_model", "model.gguf"), ("adapter", "adapter_config.json"), ("tokenizer", "tokenizer.json"),
        ("sentencepiece", "tokenizer.model"), ("text", "c.txt"), ("json_lines", "c.jsonl"), ("csv_rows", "c.csv"),
        ("parquet_rows", "c.parquet"), ("column_names", "names.json"), ("configuration", "c.yaml"),
        ("thresholds", "t.yaml"),
    ],
)  # fmt: skip
def test_a_file_with_100_gb_of_nothing_behind_it(tmp_path, monkeypatch, kind, name):
    monkeypatch.setattr("weight_atlas.tokens.files._LONGEST_LINE", 1 << 20)
    for each, content in VALID[kind]().items():
        (tmp_path / each).write_bytes(content)
    os.truncate(tmp_path / name, 100 << 30)
    with limited():
        said = outcome(kind, {}, tmp_path)
    assert said in ("clear", "accepted") and (said == "clear" or name == "model.gguf")  # whose end may be padded


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@effort(max_examples=25, deadline=None, derandomize=True)
@given(key=st.sampled_from(sorted(CONFIG)), value=ANY_JSON)
def test_any_value_in_a_configuration_is_read_or_refused_clearly(tmp_path_factory, key, value):
    files = VALID["safetensors_model"]() | {"config.json": as_json(CONFIG | {key: value})}
    said = said_of("safetensors_model", files, tmp_path_factory.mktemp("any"))
    assert said in ("clear", "accepted"), json.dumps(value)


def test_every_kind_of_input_has_a_reader():
    assert set(READERS) == set(VALID)


def test_halves_of_characters_in_files_beside_the_weights_are_compared_as_escapes(tmp_path):
    files = VALID["live_model"]() | {"generation_config.json": as_json({"\ud800": 1, "a": "\udfff"})}
    assert said_of("live_model", files, tmp_path) == "accepted"
