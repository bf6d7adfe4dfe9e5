"""The page of a series of checkpoints for a browser: headline, findings, figures and tables."""

from pathlib import Path

from weight_atlas.findings.gather import gathered
from weight_atlas.pages.collect import collected
from weight_atlas.pages.html.model_page import write_model_page
from weight_atlas.pages.html.sources import Artifacts
from weight_atlas.workflow.step import run_step


def main(products: list[Path], captions: list[Path], *, page: Path, data: Path, summary: Path, series: str) -> None:
    """Write the page, the folder of its data beside it, and what stands at its top.

    products: outputs of the step `series`, below the results folder; captions: its own .rst.
    """
    results = page.parents[2]
    found = list(collected(captions, products, results))
    write_model_page(page, data, summary, series, found, products, gathered(products, results), Artifacts())


if __name__ == "__main__":
    run_step(main, globals())
