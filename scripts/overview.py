"""The pages over all models, as Markdown and for a browser: what each one's page says first, and what compares them."""

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
    browser: Path,
    data: Path,
) -> None:
    """Write the page, and that for a browser with the folder of its data.

    summaries: of the models' pages, in their order. products: what compares models, below the folder that also holds
    the page's; captions: one .rst a comparison. pairs, vectors: summaries of the pages of pairs of models, and of
    vectors of token weights; series: of the step `series`.
    """
    compared = (captions or [], products or [], pairs or [], series or [])
    write_overview(page, browser, data, summaries, *compared, vectors or [])


if __name__ == "__main__":
    run_step(main, globals())
