"""The page of a model: headline, findings, figures and tables of all its analyses."""

from pathlib import Path

from weight_atlas.artifacts import read_json
from weight_atlas.pages.pages import write_page
from weight_atlas.workflow.step import run_step


def main(products: list[Path], captions: list[Path], findings: Path, *, page: Path, summary: Path, model: str) -> None:
    """Write the page, and what stands at its top for the overview.

    products: outputs of the analyses, below the folder that also holds the page's; captions: one .rst an analysis, in
    the order of the sections. findings: of the analyses together.
    """
    write_page(page, summary, model, captions, products, read_json(findings)["findings"])


if __name__ == "__main__":
    run_step(main, globals())
