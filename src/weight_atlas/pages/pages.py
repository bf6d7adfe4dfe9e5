"""The pages as files: each as Markdown and for a browser, with a summary for the pages over all of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas.artifacts import read_json, write_json, write_text
from weight_atlas.pages.collect import collected, link
from weight_atlas.pages.headline import Tables, headline
from weight_atlas.pages.html.index_page import write_index
from weight_atlas.pages.html.model_page import write_model_page
from weight_atlas.pages.html.sources import Artifacts
from weight_atlas.pages.page import Failures, Product, model_page, overview_page
from weight_atlas.pages.series import about_series

# The folder of pages for a browser below the atlas, by what the index calls them.
FOLDERS = {"pairs": "pairs", "series": "series", "token weights": "vectors"}


@dataclass(frozen=True)
class Places:
    """Where a page is written: page as Markdown, browser as HTML with the folder of its data, and its summary."""

    page: Path
    browser: Path
    data: Path
    summary: Path


def write_page(
    places: Places,
    model: str,
    captions: Sequence[Path],
    products: Sequence[Path],
    findings: list[dict[str, Any]],
    artifacts: Artifacts | None = None,
    changed: Mapping[str, pd.DataFrame] | None = None,
) -> None:
    """Write the pages of a model, a pair or a vector, and their summary; captions and products as of `collected`.

    findings: records of findings.gather, the gravest first. artifacts: what the map and its cards read; changed: as of
    write_model_page. The page in Markdown lies one folder below the results, that for a browser two.
    """
    found = list(collected(captions, products, places.browser.parents[2]))
    write_text(places.page, model_page(model, headline_of(found), findings, [product for product, _ in found]))
    about = write_model_page(
        places.browser, places.data, model, found, products, findings, artifacts or Artifacts(), changed=changed
    )
    write_json(places.summary, {**summary_of(model, found, findings), **about})


def write_overview(
    page: Path,
    browser: Path,
    data: Path,
    summaries: Sequence[Path],
    captions: Sequence[Path],
    products: Sequence[Path],
    pairs: Sequence[Path] = (),
    series: Sequence[Path] = (),
    vectors: Sequence[Path] = (),
) -> None:
    """Write the overview of the models, their pairs and series, and the vectors, whose summaries these are.

    page: as Markdown; browser, data: for a browser, the folder of its data.
    """
    results = page.parent.parent
    sections = [product for product, _ in collected(captions, products, results)]
    models, compared, weights = (
        {path.stem: about(path, results) for path in paths} for paths in (summaries, pairs, vectors)
    )
    others = {"pairs": compared, "series": about_series(series, results), "vectors": weights}
    write_text(page, overview_page(models, sections, None, **others))
    write_index_page(browser, data, models, sections, products, None, **others)


def write_index_page(
    browser: Path,
    data: Path,
    models: dict[str, dict[str, Any]],
    sections: list[Product],
    products: Sequence[Path],
    failures: Failures | None = None,
    *,
    pairs: dict[str, dict[str, Any]],
    series: dict[str, dict[str, Any]],
    vectors: dict[str, dict[str, Any]],
) -> None:
    """The overview for a browser, of summaries by name and of what was collected of the products."""
    others = {
        what: [{**each, "model": name, "href": f"{FOLDERS[what]}/{name}.html"} for name, each in pages.items()]
        for what, pages in (("pairs", pairs), ("series", series), ("token weights", vectors))
    }
    of_models = [{**each, "model": name} for name, each in models.items()]
    write_index(browser, data, of_models, sections, products, others, failures)


def headline_of(found: Sequence[tuple[Product, Tables]]) -> list[tuple[str, str]]:
    """Headline of what was collected."""
    return headline({product.name: contents for product, contents in found})


def summary_of(model: str, found: Sequence[tuple[Product, Tables]], findings: list[dict]) -> dict[str, Any]:
    """What stands at the top of a model's page, for the overview; of the findings what its lines show."""
    reasons = {product.name: product.not_applicable for product, _ in found if product.not_applicable}
    told = [{key: each[key] for key in ("id", "grade", "text")} for each in findings]
    return {"model": model, "headline": headline_of(found), "findings": told, "not_applicable": reasons}


def about(summary: Path, results: Path) -> dict[str, Any]:
    """What the overview says of a model, by its summary."""
    return {**read_json(summary), "page": link(summary.with_suffix(".md"), results)}
