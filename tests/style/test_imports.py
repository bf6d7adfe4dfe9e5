"""Imports inside the library run one way, from the outer layers to the inner ones, and never in a circle."""

import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from imports import imports

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "src/weight_atlas"
RULE_FILES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]

# What each part of the library may import of the others. Every part has a row here, or is one of BASE.
MAY_IMPORT: dict[str, set[str]] = {
    # Keys and their defaults; of other parts no more than tables of choices.
    "settings": {"families", "quantization", "vocabulary"},
    # Models as they are stored.
    "checkpoint": {"settings"},
    "families": {"checkpoint", "settings"},
    # Mathematics on arrays and tables.
    "weights": set(),
    "quantization": {"settings", "weights"},
    "spectra": {"settings"},
    "embeddings": {"settings", "spectra"},
    "tokens": {"checkpoint", "settings"},
    "statistics": set(),
    # Models of which a part is here at a time.
    "streamed": {"checkpoint", "families", "quantization", "settings", "spectra", "super_weights", "weights"},
    # Several models.
    "comparison": {"checkpoint", "families", "settings", "spectra", "tokens", "weights"},
    # Vectors out of checkpoints, and mathematics on them.
    "token_weights": {"checkpoint", "families", "settings", "tokens", "vocabulary", "weights"},
    # Models that run.
    "live": {"checkpoint", "families", "tokens", "settings"},
    "interventions": {"checkpoint", "families", "live", "quantization", "statistics", "tokens", "settings"},
    "super_weights": {"checkpoint", "families", "interventions", "live", "statistics", "settings"},
    "vocabulary": {"checkpoint", "families", "interventions", "live", "statistics", "super_weights", "settings"},
    # Heads and directions, from the weights alone.
    "circuits": {"checkpoint", "families", "settings", "spectra", "statistics", "vocabulary"},
    "ablations": {
        "checkpoint", "families", "interventions", "live", "quantization", "statistics", "super_weights", "settings",
    },
    # Tables only.
    "figures": set(),
    # What numbers mean: steps that compute do not read it, since a better definition must not run them again.
    "metrics": set(),
    "series": {"comparison", "metrics"},
    "findings": {"metrics"},
    "pages": {"findings", "metrics"},
    "failed_run": {"pages"},
    # The ways in.
    "workflow": {"checkpoint", "settings", "tokens"},
    "costs": {"ablations", "checkpoint", "families", "settings", "workflow"},
    "command": {
        "checkpoint", "comparison", "costs", "families", "figures", "findings", "metrics", "settings", "token_weights",
        "tokens", "workflow",
    },
    "__main__": {"command"},
    "api": {
        "ablations", "checkpoint", "circuits", "comparison", "embeddings", "families", "findings", "live", "metrics",
        "quantization", "settings", "spectra", "super_weights", "tokens", "vocabulary", "weights",
    },
    "data": {"interventions", "live", "quantization", "tokens"},
}  # fmt: skip
# Modules that every part may import; they import no more than each other.
BASE = {
    "artifacts", "atomic_files", "data_sets", "digest_records", "dtypes", "errors", "file_states", "inventory_row",
    "markdown", "natural_order", "not_applicable", "numbers_of", "paths", "ratios", "temporary_names",
    "tokenizer_limits", "yaml_file",
}  # fmt: skip
# These never need a library of models, and those need one in some functions only.
TABLES_ONLY = {"figures", "findings", "metrics", "pages", "failed_run", "command", "__main__", *BASE} - {
    "inventory_row"
}
IMPORTED_LATE = {
    "inventory_row",
    "checkpoint",
    "families",
    "weights",
    "statistics",
    "workflow",
    "costs",
    "api",
    "__init__",
}
MODEL_LIBRARIES = {"torch", "transformers", "lm_eval"}
HEAVY = {*MODEL_LIBRARIES, "matplotlib", "seaborn", "datasets", "scipy", "pandas"}


def part_of(path):
    return path.relative_to(LIBRARY).parts[0].removesuffix(".py")


MODULES = {
    ".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(LIBRARY.rglob("*.py"))
}
PARTS = {part_of(path) for path in MODULES.values()} - {"__init__"}


def test_every_part_has_its_place():
    assert {*MAY_IMPORT, *BASE} == PARTS, "give the part a row in MAY_IMPORT, or remove the row of one that is gone"
    assert not set(MAY_IMPORT) & BASE


@pytest.mark.parametrize("part", sorted(PARTS))
def test_imports_run_one_way(part):
    allowed = {part, *BASE, *MAY_IMPORT.get(part, ())}
    for name, path in MODULES.items():
        if part_of(path) == part:
            others = {other.split(".")[1] for other in imports(path) if other.startswith("weight_atlas.")}
            assert (others & PARTS) - allowed == set(), f"{name} imports what lies further out"


def test_settings_take_their_choices_from_tables_that_import_nothing():
    """So that a part may take its settings from where its choices are offered."""
    own = {name: path for name, path in MODULES.items() if part_of(path) == "settings"}
    tables = {other for path in own.values() for other in imports(path)} & MODULES.keys() - own.keys()
    inner = {name for name in tables if part_of(MODULES[name]) not in BASE}
    assert [name for name in inner if set(imports(MODULES[name])) & MODULES.keys()] == []


def test_no_module_imports_itself_by_way_of_others():
    """A package's __init__ runs before its modules in any case, so that it counts as none of their imports."""
    graph = {
        name: {other for other in imports(path) if other in MODULES and not f"{name}.".startswith(f"{other}.")}
        for name, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")


def test_the_library_knows_no_workflow():
    outside = {"snakemake", "scripts", "rules", "config"}
    assert {name for name, path in MODULES.items() if outside & {each.split(".")[0] for each in imports(path)}} == set()


@pytest.mark.parametrize("name", MODULES)
def test_libraries_of_models_are_imported_where_they_are_used(name):
    part = part_of(MODULES[name])
    if part in {*TABLES_ONLY, *IMPORTED_LATE}:
        found = {other.split(".")[0] for other in imports(MODULES[name], top_level_only=part in IMPORTED_LATE)}
        assert found & MODEL_LIBRARIES == set()


def test_workflow_level_stays_light():
    """A dry run must not pay for torch: what the rules import may not import heavy libraries at its top."""
    names = re.findall(r"from (weight_atlas\S*) import", "\n".join(path.read_text() for path in RULE_FILES))
    code = f"import sys, {', '.join(names)}\nprint(*({HEAVY!r} & set(sys.modules)))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert loaded == []
