"""The pages of a vector of token weights: findings, figures and tables of all its products."""

from pathlib import Path

from weight_atlas.findings.gather import gathered
from weight_atlas.pages.pages import Places, write_page
from weight_atlas.workflow.step import run_step


def main(
    products: list[Path], captions: list[Path], *, page: Path, browser: Path, data: Path, summary: Path, vector: str
) -> None:
    """Write the page, that for a browser with the folder of its data, and what the overview says of the vector.

    products: outputs of the steps, below the folder that also holds the page's; captions: one .rst a step, in the order
    of the sections.
    """
    found = gathered(products, page.parent.parent)
    write_page(Places(page, browser, data, summary), vector, captions, products, found)


if __name__ == "__main__":
    run_step(main, globals())
