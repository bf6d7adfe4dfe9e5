"""What the analyses of two models found, side by side, where both ran."""

from pathlib import Path

from weight_atlas.artifacts import write_table
from weight_atlas.comparison.side_by_side import side_by_side
from weight_atlas.not_applicable import if_applicable
from weight_atlas.workflow.step import run_step


def main(
    findings: Path,
    findings_b: Path,
    tables: list[Path] | None = None,
    tables_b: list[Path] | None = None,
    *,
    table: Path,
) -> None:
    """Write the numbers of both models beside each other.

    tables, tables_b: of the same analyses of each model, in folders called like them; what does not apply is left out.
    """
    sides = []
    for paths in ([findings, *(tables or [])], [findings_b, *(tables_b or [])]):
        read = {_analysis(path): if_applicable(path) for path in paths}
        sides.append({name: content for name, content in read.items() if content is not None})
    write_table(table, side_by_side(*sides))


def _analysis(path: Path) -> str:
    return path.parent.name if path.stem != "headline" else path.parent.parent.name


if __name__ == "__main__":
    run_step(main, globals())
