"""The pages of a pair of models: findings, a map of what changed, figures and tables of their comparison."""

from pathlib import Path

from weight_atlas.findings.gather import gathered
from weight_atlas.pages.html.sources import Artifacts
from weight_atlas.pages.pages import Places, write_page
from weight_atlas.workflow.step import run_step


def main(
    products: list[Path],
    captions: list[Path],
    tensor_inventory: Path,
    *,
    page: Path,
    browser: Path,
    data: Path,
    summary: Path,
    pair: str,
) -> None:
    """Write the page, that for a browser with the folder of its data, and what the overview says of the pair.

    products: outputs of the steps, below the folder that also holds the page's; captions: one .rst a step, in the order
    of the sections. tensor_inventory: of model a, whose tensors the map shows.
    """
    found = gathered(products, page.parent.parent)
    artifacts = Artifacts(tensor_inventory=tensor_inventory)
    write_page(Places(page, browser, data, summary), pair, captions, products, found, artifacts)


if __name__ == "__main__":
    run_step(main, globals())
