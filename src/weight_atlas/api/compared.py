"""Two models compared in Python: what the step `comparison` finds, computed here or read from results."""

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from weight_atlas.artifacts import read_json, read_table
from weight_atlas.metrics import tables
from weight_atlas.settings.comparison import Compared, ComparisonPart
from weight_atlas.settings.spectra import Tails

if TYPE_CHECKING:
    from weight_atlas.api import Model
    from weight_atlas.comparison.sides import Side

# The tables of a comparison by their names in the registry, each a field of comparison.summary.ComparisonTables.
_FIELDS = {
    "comparison": "table",
    "comparison.roles": "roles",
    "comparison.tensors": "changes",
    "comparison.heads": "heads",
    "comparison.tokens": "tokens",
    "comparison.alone": "alone",
    "comparison.files": "files",
}
FINDINGS = "comparison.findings"  # beside them: grade, text, and where there are some value and null_value


def compared(a: "Model", b: "Model", *, memory_mb: int) -> dict[str, pd.DataFrame]:
    """All tables of the comparison of two opened models, by their names in the registry, and FINDINGS.

    memory_mb: what the matrices compared at once may take beyond the largest of them in float64 and its Gram matrix.
    """
    from weight_atlas.comparison.measure import measured
    from weight_atlas.comparison.sides import Sides
    from weight_atlas.comparison.summary import tables_of

    sides = Sides(_side(a), _side(b))
    part = measured(sides.pairs, sides, ComparisonPart(), threads=a.threads, memory_bytes=memory_mb * 1_000_000)
    made = tables_of(sides, [a.source, b.source], [[table] for table in part], Compared(), Tails())
    found = {name: getattr(made, field) for name, field in _FIELDS.items()}
    return found | {FINDINGS: pd.DataFrame(made.summary["findings"])}


def read_comparison(results: Path, a: str, b: str) -> dict[str, pd.DataFrame] | None:
    """The same from results in which a pair of models, by their names there, was compared; None where none was."""
    for path in sorted((results / "comparison").glob("*.json")):
        summary = read_json(path)
        if (summary.get("a"), summary.get("b")) == (a, b):
            files = {name: results / tables()[name].file.format(pair=path.stem) for name in _FIELDS}
            found = {name: read_table(file) for name, file in files.items()}
            return found | {FINDINGS: pd.DataFrame(summary["findings"])}
    return None


def _side(model: "Model") -> "Side":
    from weight_atlas.comparison.sides import Side
    from weight_atlas.comparison.vocabularies import spellings

    checkpoint = model.checkpoint
    return Side(checkpoint, model.inventory, spellings(checkpoint.folder, model.running.trust_remote_code))
