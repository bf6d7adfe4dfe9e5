"""The page of a series of checkpoints as a file, and what the overview says of it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from weight_atlas.artifacts import read_json, write_text
from weight_atlas.findings.gather import gathered
from weight_atlas.pages.collect import UP, collected, link, product_of
from weight_atlas.pages.html.model_page import write_model_page
from weight_atlas.pages.html.sources import Artifacts
from weight_atlas.pages.page import series_page

FOLDER = "atlas/series"  # below the results
UP_FROM_PAGE = "../../"


def write_series_page(
    page: Path, browser: Path, data: Path, series: str, caption: Path, products: Sequence[Path]
) -> None:
    """Write the pages of a series, two folders below the results. products: outputs of the step `series`."""
    results = page.parent.parent.parent
    findings = gathered(products, results)
    found = list(collected([caption], products, results))
    summary = read_json(next(path for path in products if path.suffix == ".json"))
    pages = {name: f"../models/{name}.html" for name in summary["models"]}
    told = [(what, value) for what, value in summary["headline"]]
    write_model_page(browser, data, series, found, products, findings, Artifacts(), told=told, parts=pages)
    product, _ = product_of(caption, products, results, UP_FROM_PAGE)
    links = {name: f"../{name}.md" for name in summary["models"]}
    write_text(page, series_page(series, summary, product, links))


def about_series(summaries: Iterable[Path], results: Path) -> dict[str, dict[str, Any]]:
    """Summaries of series by name, each with a link to its page from the overview."""
    pages = {path: results / FOLDER / f"{path.stem}.md" for path in summaries}
    return {path.stem: {**read_json(path), "page": link(page, results, UP)} for path, page in pages.items()}
