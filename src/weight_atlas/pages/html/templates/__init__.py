"""The templates of the atlas; whatever is put into one is escaped."""

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from weight_atlas.pages.html.encoding import json_text


@cache
def environment() -> Environment:
    """Jinja2 with all texts escaped; the filter `data` writes a value as JSON for an element of the page."""
    from markupsafe import Markup

    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["data"] = lambda value: Markup(json_text(value))
    made.filters["fact"] = _fact
    return made


def _fact(text: object) -> str:
    """A value as the table of facts has it: whole numbers with commas, truth as yes or no."""
    said = {"True": "yes", "False": "no"}.get(str(text), str(text).removesuffix(".0"))
    return f"{int(said):,}" if said.isdigit() else said


def rendered(template: str, **values: object) -> str:
    """A page from its template."""
    return environment().get_template(template).render(**values)
