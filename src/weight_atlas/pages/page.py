"""Pages as Markdown: a model's, of headline, findings and one section a product; and one over all models."""

from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from weight_atlas.markdown import inline, table

# What could not be made: (what failed, the words that it ended with).
Failures = list[tuple[str, str]]
# Rows that a line names as its evidence.
MOST_ROWS = 5


@dataclass(frozen=True)
class Excerpt:
    """What a page shows of a table. labels: what its columns are called in words, with their units."""

    rows: pd.DataFrame
    labels: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Product:
    """What one analysis left for a model.

    name: of the rule, such as effective_rank; caption: how to read it; figures to show, more figures and files to link:
    paths relative to the page; tables: what to show of them in the text, by title. not_applicable: why there is
    nothing, or why there is no more. missing: why what belongs here has not been made.
    """

    name: str
    caption: str
    figures: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    tables: dict[str, Excerpt] = field(default_factory=dict)
    not_applicable: str = ""
    missing: str = ""


def model_page(
    model: str,
    headline: list[tuple[str, str]],
    findings: list[dict[str, Any]],
    products: list[Product],
    failures: Failures | None = None,
) -> str:
    """Markdown page of a model; headline rows are (what, value), findings are records of findings.gather.

    failures: what keeps the page from being complete; None for a complete one.
    """
    parts = [f"# Atlas of {inline(model)}", *_incomplete(failures)]
    if headline:
        parts.append(markdown_table(pd.DataFrame(headline, columns=["what", "value"])))
    parts += _findings(findings)
    parts += [_section(product) for product in products]
    return "\n\n".join(parts) + "\n"


def series_page(series: str, summary: dict[str, Any], product: Product, links: dict[str, str]) -> str:
    """Markdown page of a series of checkpoints.

    summary: of series.tables, with `headline` rows and `findings`; links: to the pages of its models, by name.
    """
    rows = pd.DataFrame(summary["headline"], columns=["what", "value"])
    pages = ", ".join(f"[{inline(name)}]({link})" for name, link in links.items())
    parts = [f"# Series {inline(series)}", markdown_table(rows), *_findings(summary["findings"])]
    return "\n\n".join([*parts, f"Checkpoints: {pages}", _section(product)]) + "\n"


def overview_page(
    models: dict[str, dict],
    products: list[Product],
    failures: Failures | None = None,
    *,
    pairs: dict[str, dict] | None = None,
    series: dict[str, dict[str, Any]] | None = None,
    vectors: dict[str, dict] | None = None,
) -> str:
    """Markdown page over models: what each page says first, a row a model, then what compares them.

    models: by name, the page to link to (`page`; None where there is none), `headline` rows, `findings` and
    `not_applicable` (analysis -> reason), as on that page; `incomplete`: whether the page is. pairs, vectors: likewise,
    of pairs of models, and of vectors of token weights. series: summaries of series, with the `page` to link to.
    """
    parts = ["# Atlas", *_incomplete(failures)]
    for what, pages in (("model", models), ("pair", pairs or {}), ("vector", vectors or {})):
        parts += [_rows(pages, what)] if pages else []
        for name, about in pages.items():
            lines = [*_told(about["findings"]), *_not_applicable(about.get("not_applicable", {}))]
            if lines:
                parts += [f"## {_linked(name, about)}", "\n".join(lines)]
    parts += [_section(product) for product in products]
    for name, about in (series or {}).items():
        parts.append(f"## Series [{inline(name)}]({about['page']})")
        parts.append(markdown_table(pd.DataFrame(about["headline"], columns=["what", "value"])))
        parts += _findings(about["findings"])
    return "\n\n".join(parts) + "\n"


def _rows(pages: dict[str, dict], what: str) -> str:
    """A table with a row for each page: what it says first."""
    rows = [{what: _linked(name, about), **dict(about["headline"])} for name, about in pages.items()]
    return markdown_table(pd.DataFrame(rows), written=what)


def _linked(name: str, about: dict) -> str:
    link = f"[{inline(name)}]({about['page']})" if about["page"] else inline(name)
    return f"{link} (incomplete)" if about.get("incomplete") else link


def _incomplete(failures: Failures | None) -> list[str]:
    if failures is None:
        return []
    lines = [f"- {inline(what)}: {inline(words)}" for what, words in failures]
    return ["**This page is incomplete.** The next run makes it again.", *(["\n".join(lines)] if lines else [])]


def _findings(findings: list[dict[str, Any]]) -> list[str]:
    """A line a finding, with what to do and where it shows."""
    lines = [
        "\n  - ".join([line, *(part for part in (_remedy(each), _evidence(each)) if part)])
        for line, each in zip(_told(findings), findings, strict=True)
    ]
    return ["\n".join(lines)] if lines else []


def _told(findings: list[dict[str, Any]]) -> list[str]:
    return [f"- **{each['grade']}**: {inline(each['text'])}" for each in findings]


def _remedy(finding: dict[str, Any]) -> str:
    return f"What to do: {inline(finding['remedy'])}" if finding.get("remedy") else ""


def _evidence(finding: dict[str, Any]) -> str:
    """A link to the file that shows a finding, with the rows of a table, counted from 0."""
    if "evidence" not in finding:
        return ""
    file, rows = finding["evidence"]["file"], finding["evidence"]["rows"]
    listed = ", ".join(map(str, rows[:MOST_ROWS])) + (" ..." if len(rows) > MOST_ROWS else "")
    where = f", row{'s' if len(rows) > 1 else ''} {listed}" if rows and not file.endswith(".json") else ""
    return f"Evidence: [{inline(file)}](../{file}){where}"


def _not_applicable(reasons: dict[str, str]) -> list[str]:
    """One line a reason, with all that it leaves out."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        by_reason.setdefault(reason, []).append(title_of(name))
    return [f"- not applicable: {', '.join(names)}: {inline(reason)}" for reason, names in by_reason.items()]


def _section(product: Product) -> str:
    parts = [f"## {title_of(product.name)}"]
    if product.figures or product.files or product.more or product.tables:
        parts.append(product.caption.strip())
    parts += [f"![{title_of(product.name)}]({figure})" for figure in product.figures]
    for title, excerpt in product.tables.items():
        parts += [f"**{inline(title)}**", markdown_table(excerpt.rows), _legend(excerpt.labels)]
    parts += [_links("More figures", product.more), _links("Files", product.files)]
    parts += [f"{label}: {inline(why)}" for label, why in _gaps(product) if why]
    return "\n\n".join(part for part in parts if part)


def _gaps(product: Product) -> list[tuple[str, str]]:
    return [("Not applicable", product.not_applicable), ("Missing", product.missing)]


def _legend(labels: dict[str, str]) -> str:
    """What columns mean, for those whose names do not say it."""
    words = [f"`{column}`: {inline(label)}" for column, label in labels.items() if column.replace("_", " ") != label]
    return f"{'; '.join(words)}." if words else ""


def _links(label: str, paths: list[str]) -> str:
    links = ", ".join(f"[{inline(path.removeprefix('../'))}]({path})" for path in paths)
    return f"{label}: {links}" if paths else ""


def title_of(name: str) -> str:
    """Heading for a product's name: effective_rank -> Effective rank."""
    return capitalised(name.replace("_", " ").replace("cdf", "CDF").replace("pca", "PCA"))


def capitalised(words: str) -> str:
    """Words with a capital at their beginning."""
    return words[:1].upper() + words[1:]


def markdown_table(frame: pd.DataFrame, *, written: str = "") -> str:
    """A DataFrame as a Markdown table: four significant digits, empty cells for missing values, texts shown whole.

    written: a column that holds Markdown already.
    """
    return table(frame.astype(object).map(_readable), written=written, disable_numparse=True)


def _readable(value: object) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)) or value is pd.NA:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e9 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)
