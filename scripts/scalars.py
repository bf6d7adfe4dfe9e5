"""The scalars of a model's atlas: every number that the registry of metrics knows, by role."""

from pathlib import Path

from weight_atlas.artifacts import write_table
from weight_atlas.series.scalars import scalars
from weight_atlas.workflow.step import run_step


def main(products: list[Path] | None = None, *, table: Path) -> None:
    """Write the scalars of one model. products: tables and JSON files of its analyses."""
    found = scalars(products or [], table.parent.parent)
    write_table(table, found)
    print(f"{len(found)} scalars of {found['metric'].nunique()} metrics", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
