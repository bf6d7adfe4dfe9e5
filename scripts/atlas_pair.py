"""The page of a pair of models for a browser: findings, a map of what changed, figures and tables."""

from pathlib import Path

from weight_atlas.findings.gather import gathered
from weight_atlas.pages.collect import collected
from weight_atlas.pages.html.model_page import write_model_page
from weight_atlas.pages.html.sources import Artifacts
from weight_atlas.workflow.step import run_step


def main(
    products: list[Path],
    captions: list[Path],
    tensor_inventory: Path,
    *,
    page: Path,
    data: Path,
    summary: Path,
    pair: str,
) -> None:
    """Write the page, the folder of its data beside it, and what stands at its top.

    products: outputs of the steps, below the results folder; captions: one .rst a step, in the order of the sections.
    tensor_inventory: of model a, whose tensors the map shows.
    """
    results = page.parents[2]
    found = list(collected(captions, products, results))
    write_model_page(
        page,
        data,
        summary,
        pair,
        found,
        products,
        gathered(products, results),
        Artifacts(tensor_inventory=tensor_inventory),
    )


if __name__ == "__main__":
    run_step(main, globals())
