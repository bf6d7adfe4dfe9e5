"""The pages as files: a model's with its summary for the overview, and the overview."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weight_atlas.artifacts import read_json, write_json, write_text
from weight_atlas.pages.collect import collected, link
from weight_atlas.pages.headline import Tables, findings, headline
from weight_atlas.pages.page import Product, model_page, overview_page


def write_page(page: Path, summary: Path, model: str, captions: Sequence[Path], products: Sequence[Path]) -> None:
    """Write a model's page and its summary; arguments as of `collected`, the page one folder below the results."""
    found = list(collected(captions, products, page.parent.parent))
    write_text(page, model_page(model, *top_of(found), [product for product, _ in found]))
    write_json(summary, summary_of(model, found))


def write_overview(page: Path, summaries: Sequence[Path], captions: Sequence[Path], products: Sequence[Path]) -> None:
    """Write the overview of the models whose summaries these are, beside their pages."""
    results = page.parent.parent
    sections = [product for product, _ in collected(captions, products, results)]
    write_text(page, overview_page({path.stem: about(path, results) for path in summaries}, sections))


def top_of(found: Sequence[tuple[Product, Tables]]) -> tuple[list[tuple[str, str]], list[dict[str, str]]]:
    """Headline and findings of what was collected."""
    tables = {product.name: contents for product, contents in found}
    return headline(tables), findings(tables)


def summary_of(model: str, found: Sequence[tuple[Product, Tables]]) -> dict[str, Any]:
    """What stands at the top of a model's page, for the overview."""
    first, graded = top_of(found)
    reasons = {product.name: product.not_applicable for product, _ in found if product.not_applicable}
    return {"model": model, "headline": first, "findings": graded, "not_applicable": reasons}


def about(summary: Path, results: Path) -> dict[str, Any]:
    """What the overview says of a model, by its summary."""
    return {**read_json(summary), "page": link(summary.with_suffix(".md"), results)}
