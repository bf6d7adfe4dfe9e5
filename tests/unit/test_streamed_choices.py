"""What the configuration asks to be measured of a streamed model."""

from weight_atlas.settings.analyses import ANALYSES
from weight_atlas.streamed.choices import measured_for, part_options
from weight_atlas.streamed.tables import STEPS
from weight_atlas.workflow.configuration import configured
from weight_atlas.workflow.selection import Selection


def options(model):
    config = configured(
        {
            "models": {"all": {"source": "hf://a/b"}, "own": {"source": "hf://a/b", "spool_gb": 3}},
            "corpora": {"c": {"source": "bundled:python-docs"}},
            "sparsity": {"near_rows_budget": 7},
        },
        "configuration",
    )
    selection = Selection(config, ANALYSES)
    return part_options(config["models"][model], ["sparsity"], lambda name: selection.section(name, model))


def test_values_are_those_of_the_sections_and_of_the_model():
    assert options("own")["spool_gb"] == 3 != options("all")["spool_gb"]
    assert options("all")["near_rows_budget"] == 7
    assert options("all")["steps"] == ["sparsity"]


def test_each_analysis_has_measured_what_it_puts_together():
    assert measured_for(["heavy_tail", "spectra_report"]) == ["attention_kernel", "singular_values"]
    assert measured_for(["run_config"]) == []
    assert set(measured_for(ANALYSES)) <= set(STEPS.values())
