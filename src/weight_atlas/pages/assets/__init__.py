"""What all pages of the atlas share: the sheet, the scripts that draw, the library of charts, and the definitions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from weight_atlas.artifacts import write_text
from weight_atlas.metrics import Metric, tables
from weight_atlas.pages.html.sections import PARTS
from weight_atlas.pages.html.templates import rendered


def write_assets(sources: Sequence[Path], folder: Path) -> None:
    """Write these files, the library of charts and the page of definitions into a folder beside the pages."""
    import vl_convert

    for path in sources:
        write_text(folder / path.name, path.read_text(encoding="utf-8"))
    bundle = vl_convert.javascript_bundle(None)  # type: ignore[arg-type]
    write_text(folder / "vega.js", f"(() => {{\n{bundle}\n}})();\n")
    write_text(folder / "metrics.html", rendered("metrics.html.jinja", up="../", parts=_definitions()))


def _definitions() -> list[dict[str, Any]]:
    """Every table of the registry with its metrics, under the headings of the sections."""
    known = list(tables().values())
    parts = list(dict.fromkeys([*PARTS, *(table.part for table in known)]))
    return [
        {
            "id": part,
            "heading": PARTS.get(part) or part.replace("_", " "),
            "tables": [
                {
                    "name": table.name,
                    "file": table.file,
                    "rows": table.rows,
                    "metrics": [{"metric": metric, "null": _null(metric)} for metric in table.metrics],
                    "words": {**table.words, **table.lists},
                }
                for table in known
                if table.part == part
            ],
        }
        for part in parts
        if any(table.part == part for table in known)
    ]


def _null(metric: Metric) -> str:
    if metric.null is None:
        return ""
    return f"the column {metric.null}" if isinstance(metric.null, str) else format(metric.null, "g")
