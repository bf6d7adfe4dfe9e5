"""What every step took, for the pages. It is no input of any page, since no two runs take the same time.

The pages load the file when they are asked for it, so that nothing is stale when it changes.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "steps"  # of the file below the atlas, and of what it hands over
# Columns of Snakemake's benchmark files, with what a page calls them.
COLUMNS = {"s": "seconds", "cpu_time": "CPU_seconds", "max_rss": "megabytes"}
TITLES = {
    "seconds": "time on the clock",
    "CPU_seconds": "time on all cores",
    "megabytes": "largest resident memory, in MB",
}


def write_step_costs(benchmarks: Path, atlas: Path) -> None:
    """Write the file of an atlas from the benchmark files of a workflow; none where there are no pages.

    benchmarks: a folder of {step}/{what it is of}.tsv, or {step}.tsv for a step that runs once.
    """
    # Every run ends here, with pages or without: those without need not pay for these.
    from weight_atlas.pages.html.encoding import write_chunk

    if not (atlas / "assets").is_dir():
        return
    rows = sorted(_rows(benchmarks), key=lambda row: -(row["seconds"] or 0))
    names = ["step", "of", *COLUMNS.values()]
    columns = [{"name": name, **({"title": TITLES[name]} if name in TITLES else {})} for name in names]
    write_chunk(atlas, NAME, {"columns": columns, "cells": [[row[name] for row in rows] for name in names]})


def _rows(benchmarks: Path) -> Iterator[dict[str, Any]]:
    for path in sorted(benchmarks.rglob("*.tsv")):
        step, *of = path.relative_to(benchmarks).with_suffix("").parts
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                yield {
                    "step": step,
                    "of": "/".join(of),
                    **{ours: _number(row.get(name)) for name, ours in COLUMNS.items()},
                }


def _number(text: str | None) -> float | None:
    """A number of a benchmark; None for what was too short to be measured, or is torn."""
    try:
        return float(text or "")
    except ValueError:
        return None
