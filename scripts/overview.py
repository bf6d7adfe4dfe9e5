"""The page over all models: what each one's page says first, and what compares them."""

from pathlib import Path

from weight_atlas.pages.pages import write_overview
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
) -> None:
    """Write the page.

    summaries: beside the models' pages, in the order of the rows. products: what compares models, below the folder that
    also holds the page's; captions: one .rst a comparison. pairs, vectors: beside the pages of pairs of models, and of
    vectors of token weights; series: summaries of series.
    """
    compared = (captions or [], products or [], pairs or [], series or [])
    write_overview(page, summaries, *compared, vectors or [])


if __name__ == "__main__":
    run_step(main, globals())
