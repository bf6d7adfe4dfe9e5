"""The pages as files: a model's with its summary for the overview, and the overview."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weight_atlas.artifacts import read_json, write_json, write_text
from weight_atlas.pages.collect import collected, link
from weight_atlas.pages.headline import Tables, headline
from weight_atlas.pages.page import Product, model_page, overview_page
from weight_atlas.pages.series import about_series


def write_page(
    page: Path, summary: Path, model: str, captions: Sequence[Path], products: Sequence[Path], findings: list[dict]
) -> None:
    """Write a model's page and its summary; arguments as of `collected`, the page one folder below the results.

    findings: records of findings.gather, the gravest first.
    """
    found = list(collected(captions, products, page.parent.parent))
    write_text(page, model_page(model, headline_of(found), findings, [product for product, _ in found]))
    write_json(summary, summary_of(model, found, findings))


def write_overview(
    page: Path,
    summaries: Sequence[Path],
    captions: Sequence[Path],
    products: Sequence[Path],
    pairs: Sequence[Path] = (),
    series: Sequence[Path] = (),
    vectors: Sequence[Path] = (),
) -> None:
    """Write the overview of the models, their pairs and series, and the vectors, whose summaries these are."""
    results = page.parent.parent
    sections = [product for product, _ in collected(captions, products, results)]
    models, compared, weights = (
        {path.stem: about(path, results) for path in paths} for paths in (summaries, pairs, vectors)
    )
    of_series = about_series(series, results)
    write_text(page, overview_page(models, sections, pairs=compared, series=of_series, vectors=weights))


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
