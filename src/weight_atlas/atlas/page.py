"""Pages as Markdown: a model's, of headline, findings and one section a product; and one over all models."""

from dataclasses import dataclass, field

import pandas as pd


@dataclass(frozen=True)
class Product:
    """What one analysis left for a model.

    name: of the rule, such as effective_rank; caption: how to read it; figures to show, more figures and files to link:
    paths relative to the page; tables: what to show of them in the text, by title.
    """

    name: str
    caption: str
    figures: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)


def page(model: str, headline: list[tuple[str, str]], findings: list[dict[str, str]], products: list[Product]) -> str:
    """Markdown page of a model; headline rows are (what, value), findings have a grade and a text."""
    parts = [f"# Atlas of {model}"]
    if headline:
        parts.append(markdown_table(pd.DataFrame(headline, columns=["what", "value"])))
    parts += _findings(findings)
    parts += [_section(product) for product in products]
    return "\n\n".join(parts) + "\n"


def overview(models: dict[str, dict], products: list[Product]) -> str:
    """Markdown page over models: what each page says first, a row a model, then what compares them.

    models: by name, the page to link to (`page`), `headline` rows and `findings`, as on that page.
    """
    links = {name: f"[{name}]({about['page']})" for name, about in models.items()}
    rows = [{"model": links[name], **dict(about["headline"])} for name, about in models.items()]
    parts = ["# Atlas", markdown_table(pd.DataFrame(rows))]
    for name, about in models.items():
        if about["findings"]:
            parts += [f"## {links[name]}", *_findings(about["findings"])]
    parts += [_section(product) for product in products]
    return "\n\n".join(parts) + "\n"


def _findings(findings: list[dict[str, str]]) -> list[str]:
    return ["\n".join(f"- **{each['grade']}**: {each['text']}" for each in findings)] if findings else []


def _section(product: Product) -> str:
    parts = [f"## {title_of(product.name)}", product.caption.strip()]
    parts += [f"![{title_of(product.name)}]({figure})" for figure in product.figures]
    for title, table in product.tables.items():
        parts += [f"**{title}**", markdown_table(table)]
    parts += [_links("More figures", product.more), _links("Files", product.files)]
    return "\n\n".join(part for part in parts if part)


def _links(label: str, paths: list[str]) -> str:
    links = ", ".join(f"[{path.removeprefix('../')}]({path})" for path in paths)
    return f"{label}: {links}" if paths else ""


def title_of(name: str) -> str:
    """Heading for a product's name: effective_rank -> Effective rank."""
    words = name.replace("_", " ").replace("cdf", "CDF")
    return words[:1].upper() + words[1:]


def markdown_table(table: pd.DataFrame) -> str:
    """A DataFrame as a Markdown table: four significant digits, empty cells for missing values, no raw pipes."""
    shown = table.astype(object).map(_cell)
    return shown.to_markdown(index=False, disable_numparse=True)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)) or value is pd.NA:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e4 or abs(value) >= 1e9 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value).replace("|", "\\|").replace("\n", " ")
