"""The page of a model: headline, findings, figures and tables of all its analyses."""

from pathlib import Path

from weight_atlas.atlas.collect import collected
from weight_atlas.atlas.headline import findings, headline
from weight_atlas.atlas.page import page
from weight_atlas.step import run_step
from weight_atlas.tables import write_json, write_text


def main(products: list[Path], captions: list[Path], *, page_: Path, summary: Path, model: str) -> None:
    """Write the page, and what stands at its top for the overview.

    products: outputs of the analyses, below the folder that also holds the page's; captions: one .rst an analysis, in
    the order of the sections.
    """
    found = list(collected(captions, products, page_.parent.parent))
    tables = {product.name: contents for product, contents in found}
    first, graded = headline(tables), findings(tables)
    write_text(page_, page(model, first, graded, [product for product, _ in found]))
    write_json(summary, {"model": model, "headline": first, "findings": graded})


if __name__ == "__main__":
    run_step(main, globals())
