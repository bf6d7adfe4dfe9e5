"""The page over all models: what each one's page says first, and what compares them."""

from pathlib import Path

from weight_atlas.atlas.collect import collected, link
from weight_atlas.atlas.page import overview
from weight_atlas.step import run_step
from weight_atlas.tables import read_json, write_text


def main(
    summaries: list[Path],
    products: list[Path] | None = None,
    captions: list[Path] | None = None,
    *,
    page_: Path,
) -> None:
    """Write the page.

    summaries: beside the models' pages, in the order of the rows. products: what compares models, below the folder that
    also holds the page's; captions: one .rst a comparison.
    """
    results = page_.parent.parent
    models = {path.stem: {**read_json(path), "page": link(path.with_suffix(".md"), results)} for path in summaries}
    sections = [product for product, _ in collected(captions or [], products or [], results)]
    write_text(page_, overview(models, sections))


if __name__ == "__main__":
    run_step(main, globals())
