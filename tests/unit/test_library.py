"""`import weight_atlas` is light, and gives the numbers of the steps."""

import re
import runpy
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import weight_atlas as wa
from weight_atlas.artifacts import read_table, write_table
from weight_atlas.workflow.provenance import closure

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "src/weight_atlas"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
SUPER_WEIGHT = [{"layer": 1, "row": 7, "col": 11}]


def test_importing_the_package_loads_nothing_else():
    code = "import sys, importlib; before = set(sys.modules); import weight_atlas; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["weight_atlas"]


def test_the_api_is_no_part_of_the_code_of_a_step():
    """Else a change of any module would run every step again."""
    assert "weight_atlas/api.py" not in closure(ROOT / "scripts/effective_rank.py", LIBRARY)


def test_all_public_names_are_there_and_typed():
    stub = (LIBRARY / "__init__.pyi").read_text()
    for name in wa.__all__:
        assert getattr(wa, name) is not None
        assert re.search(rf"\b{name}\b", stub), name
    assert wa.__version__ == version("weight-atlas")
    assert (LIBRARY / "py.typed").is_file()
    with pytest.raises(AttributeError, match="opne"):
        wa.opne  # noqa: B018


def step(name: str, *arguments: object) -> None:
    """Run a step's script as its command line does, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(ROOT / f"scripts/{name}.py"), run_name="__main__")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """What the steps write for the bundled model and a text; --KEY FILE for each that another step reads."""
    folder = tmp_path_factory.mktemp("steps")
    text = "\n\n".join(path.read_text() for path in sorted((ROOT / "docs").glob("m*.md")))
    write_table(folder / "text.parquet", pd.DataFrame({"document": ["a"], "text": [text], "group": [""]}))
    manifest, tensors, part = folder / "manifest.json", folder / "tensors.parquet", folder / "part.parquet"
    step("fetch_checkpoint", "--manifest", manifest, "--source", "bundled:demo")
    step("tensor_inventory", manifest, "--table", tensors)
    step("singular_values_part", manifest, tensors, "--part", part, "--scatteritem", "1-of-1")
    step("singular_values", "--parts", part, "--inventory", tensors, "--table", folder / "spectra.parquet")
    step("token_classes", manifest, tensors, "--table", folder / "classes.parquet")
    step("neuron_scan", manifest, tensors, folder / "classes.parquet", "--table", folder / "neurons.parquet")
    step(
        "variant_perplexity", manifest, folder / "text.parquet", "--inventory", tensors,
        "--windows", folder / "windows.parquet", "--description", folder / "about.json", "--ablation", "ablation",
        "--corpus", "text", "--window", 128, "--tokens", 1024,
        "--settings", '{"zero": {}, "weights": [{"layer": 1, "row": 7, "col": 11}]}',
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def model():
    return wa.open("bundled:demo")


@pytest.mark.slow
def test_tables_of_the_api_are_those_of_the_steps(files, model):
    neurons = model.neurons()
    made = {
        "tensors": model.inventory, "spectra": model.spectra(), "classes": model.token_classes(),
        "neurons": neurons.drop(columns="label"),
    }  # fmt: skip
    for name, table in made.items():
        write_table(files / f"api-{name}.parquet", table)
        pd.testing.assert_frame_equal(
            read_table(files / f"api-{name}.parquet"), read_table(files / f"{name}.parquet"), check_exact=True
        )
    assert set(neurons["label"]) <= {"prediction", "suppression", "partition", "entropy", "unclear"}


@pytest.mark.slow
def test_perplexity_of_the_api_is_that_of_the_steps_windows(files, model):
    corpus = read_table(files / "text.parquet")
    table = model.ablate({"zero": {}, "weights": SUPER_WEIGHT}, corpus, window=128, tokens=1024)
    windows = read_table(files / "windows.parquet")
    assert list(table["variant"]) == ["baseline", "ablation: zeroed"]
    assert table["perplexity"][1] == pytest.approx(np.exp(windows["nll"].sum() / windows["tokens"].sum()), rel=1e-9)
    assert table["perplexity"][0] == model.perplexity(corpus, window=128, tokens=1024)["perplexity"][0]
    with pytest.raises(wa.AtlasError, match="there is no layer 9"):
        model.ablate({"zero": {}, "weights": [{"layer": 9, "row": 7, "col": 11}]}, corpus)


@pytest.mark.slow
def test_the_code_of_the_documentation_runs():
    names: dict = {}
    for block in BLOCK.findall((ROOT / "docs/library.md").read_text()):
        exec(block, names)
    assert len(names["ranks"]) == len(names["tails"]) == 30
    assert names["verdict"].verdict == "critical"
    assert names["given"]["perplexity"][1] > 100 * names["given"]["perplexity"][0]
    assert "dmeo" in names["message"]
