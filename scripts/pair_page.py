"""The page of a pair of models: findings, figures and tables of their comparison."""

from pathlib import Path

from weight_atlas.findings.gather import gathered
from weight_atlas.pages.pages import write_page
from weight_atlas.workflow.step import run_step


def main(products: list[Path], captions: list[Path], *, page: Path, summary: Path, pair: str) -> None:
    """Write the page, and what stands at its top.

    products: outputs of the steps, below the folder that also holds the page's; captions: one .rst a step, in the order
    of the sections.
    """
    write_page(page, summary, pair, captions, products, gathered(products, page.parent.parent))


if __name__ == "__main__":
    run_step(main, globals())
