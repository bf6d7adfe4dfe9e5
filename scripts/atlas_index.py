"""The first page of the atlas for a browser: all models side by side, and what compares them."""

from pathlib import Path

from weight_atlas.pages.collect import collected
from weight_atlas.pages.html.index_page import read_summary, write_index
from weight_atlas.workflow.step import run_step


def main(
    summaries: list[Path],
    products: list[Path] | None = None,
    captions: list[Path] | None = None,
    pairs: list[Path] | None = None,
    series: list[Path] | None = None,
    vectors: list[Path] | None = None,
    *,
    page: Path,
    data: Path,
) -> None:
    """Write the page and the folder of its data.

    summaries: of the models' pages, in their order; pairs, series, vectors: of the other pages. products: what compares
    models, below the results folder; captions: one .rst a comparison.
    """
    others = {"pairs": pairs or [], "series": series or [], "token weights": vectors or []}
    found = [product for product, _ in collected(captions or [], products or [], page.parents[1])]
    write_index(page, data, [read_summary(path) for path in summaries], found, products or [], others)


if __name__ == "__main__":
    run_step(main, globals())
