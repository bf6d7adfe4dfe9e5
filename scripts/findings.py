"""Graded findings of all analyses of a model: what to look at first, beside its null, with evidence and remedy."""

from pathlib import Path

from weight_atlas.artifacts import write_json, write_table
from weight_atlas.findings.gather import findings_table, gathered
from weight_atlas.workflow.step import run_step


def main(products: list[Path] | None = None, *, found: Path, table: Path, model: str) -> None:
    """Write the findings of a model, the gravest first.

    products: tables and JSON files of its analyses, below the folder that also holds the findings' own.
    """
    findings = gathered(products or [], found.parent.parent)
    write_json(found, {"schema": 1, "model": model, "findings": findings})
    write_table(table, findings_table(findings))
    for grade in dict.fromkeys(each["grade"] for each in findings):
        print(f"{grade}: {', '.join(each['id'] for each in findings if each['grade'] == grade)}", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
