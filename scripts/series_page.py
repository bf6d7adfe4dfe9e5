"""The pages of a series of checkpoints: headline, findings, figures and tables, and links to the checkpoints' pages."""

from pathlib import Path

from weight_atlas.pages.series import write_series_page
from weight_atlas.workflow.step import run_step


def main(products: list[Path], caption: Path, *, page: Path, browser: Path, data: Path, series: str) -> None:
    """Write the page, two folders below the results, and that for a browser with the folder of its data.

    products: outputs of the step `series`; caption: its own .rst.
    """
    write_series_page(page, browser, data, series, caption, products)


if __name__ == "__main__":
    run_step(main, globals())
