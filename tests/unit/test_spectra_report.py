"""The spectra page and the figures of ranks, kernels and single matrices, for models of every size."""

import numpy as np
import pandas as pd
import pytest

from weight_atlas.figures.attention_kernel import head_pages, kernel_maps
from weight_atlas.figures.spectra_ranks import rank_by_layer
from weight_atlas.figures.spectra_view import variance_explained
from weight_atlas.figures.style import save_figure
from weight_atlas.spectra.attention_table import attention_kernels
from weight_atlas.spectra.ranks import components_of, effective_ranks
from weight_atlas.spectra.report import Spectra, model_configuration, spectra_report
from weight_atlas.spectra.table import singular_value_table
from weight_atlas.spectra.trends import phase_table, statistics_by_role, trend_table

D, HEADS, KV, HEAD_DIM, FF, VOCABULARY = 16, 4, 2, 6, 40, 50
SHAPES = {
    "W_Q": (HEADS * HEAD_DIM, D),
    "W_K": (KV * HEAD_DIM, D),
    "W_V": (KV * HEAD_DIM, D),
    "W_O": (D, HEADS * HEAD_DIM),
    "W_gate": (FF, D),
    "W_up": (FF, D),
    "W_down": (D, FF),
}


def inventory(depth, experts=0):
    """A small Llama-like inventory; with experts, the feed-forward matrices come that many times a layer."""
    rows = [("W_E", None, None, (VOCABULARY, D))]
    for layer in range(depth):
        for role, shape in SHAPES.items():
            several = experts if role in ("W_gate", "W_up", "W_down") else 0
            rows += [(role, layer, expert if several else None, shape) for expert in range(max(1, several))]
    table = pd.DataFrame(
        [
            {
                "id": f"{role}.{layer}.{expert}",
                **{"tensor": role, "role": role, "stack": "decoder", "component": "", "layer": layer, "expert": expert},
                **{
                    "rows": shape[0],
                    "cols": shape[1],
                    "dtype": "F32",
                    "tied_to": "",
                    "parameters": shape[0] * shape[1],
                },
                "n_heads": {"W_Q": HEADS, "W_O": HEADS, "W_K": KV, "W_V": KV}.get(role),
                "head_dim": HEAD_DIM if role in ("W_Q", "W_K", "W_V", "W_O") else None,
            }
            for role, layer, expert, shape in rows
        ]
    )
    return table.astype(dict.fromkeys(["layer", "expert", "n_heads", "head_dim"], "Int64"))


def load(row):
    import torch

    return torch.from_numpy(np.random.default_rng(list(row.id.encode())).standard_normal((row.rows, row.cols))).float()


def spectra_of(tensors):
    values = singular_value_table(tensors, load)
    ranks = effective_ranks(values)
    tables = statistics_by_role(ranks), phase_table(ranks), trend_table(ranks)
    return Spectra(tensors, values, attention_kernels(tensors, load), ranks, *tables)


def page_of(spectra, **kwargs):
    figures = dict.fromkeys(["ranks", "kernels", "heads", "matrices"], "f.png")
    choices = {"heads": ["middle:0"], "matrices": ["W_down:middle"], **kwargs}
    return spectra_report("m", spectra, figures=figures, **choices)


def test_configuration_is_read_from_the_tensors():
    sizes = model_configuration(inventory(3))
    assert list(sizes.values())[:8] == [3, D, FF, HEADS, KV, VOCABULARY, HEAD_DIM, KV * HEAD_DIM]
    assert model_configuration(inventory(2, experts=5))["Experts"] == 5


def test_page_has_all_sections_in_order():
    page = page_of(spectra_of(inventory(6)))
    titles = [line for line in page.splitlines() if line.startswith("## ")]
    assert titles == [
        "## Model configuration",
        "## Attention kernels of chosen heads",
        "## Attention kernels of all layers and heads",
        "## Singular values of single matrices",
        "## Effective rank by layer and role",
        "## Phases",
        "## Trends through the layers",
    ]
    assert "nan" not in page.lower()
    assert page.count("Top 20 eigenvalues") == 2


@pytest.mark.parametrize(
    "tensors", [inventory(1), inventory(2, experts=3), inventory(4)[lambda t: t["role"] == "W_up"]]
)
def test_page_of_small_and_odd_models(tensors):
    spectra = spectra_of(tensors.reset_index(drop=True))
    page = page_of(spectra, heads=["0:0", "9:9"], matrices=["W_down:0", "W_E", "W_Q:77"])
    has_heads = "W_Q" in set(tensors["role"])
    assert ("no attention heads" in page) is not has_heads
    assert ("Of experts the mean is shown" in page) is bool(tensors["expert"].notna().any())


@pytest.mark.parametrize(
    ("depth", "experts"), [(3, 4), *(pytest.param(*size, marks=pytest.mark.slow) for size in ((1, 0), (40, 0)))]
)
def test_figures_are_drawn_for_all_sizes(depth, experts, tmp_path):
    spectra = spectra_of(inventory(depth, experts))
    ranks = rank_by_layer(spectra.ranks)
    assert sum(axis.get_visible() for axis in ranks.axes) == len(SHAPES) + 1
    maps = kernel_maps(spectra.kernels)
    assert len([axis for axis in maps.axes if axis.get_title()]) == 6
    pages = head_pages(spectra.kernels[spectra.kernels["head"] == 0].head(2))
    assert len(pages.axes) == 6
    view = variance_explained(spectra.singular_values.head(2), spectra.ranks)
    save_figure(tmp_path / "view.png", view)


def test_figures_with_nothing_to_draw_say_so():
    spectra = spectra_of(inventory(1))
    nothing = spectra.kernels.head(0)
    for figure in (
        rank_by_layer(spectra.ranks.head(0)),
        kernel_maps(nothing),
        head_pages(nothing),
        variance_explained(spectra.singular_values.head(0), spectra.ranks),
    ):
        assert figure.axes[0].texts[0].get_text()


def test_components_add_up():
    values = singular_value_table(inventory(1).head(2), load)
    components = components_of(values)
    assert len(components) == sum(len(sigma) for sigma in values["sigma"])
    last = components.groupby("id")["cumulative"].last()
    np.testing.assert_allclose(last, 1, rtol=1e-12)
    assert components_of(values.head(0)).empty
