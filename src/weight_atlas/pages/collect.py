"""What a page shows of the files that analyses left."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from weight_atlas.artifacts import read_json, read_table
from weight_atlas.metrics import table_of
from weight_atlas.not_applicable import reason_of, together
from weight_atlas.pages.excerpts import labels, shown
from weight_atlas.pages.headline import Tables
from weight_atlas.pages.page import Excerpt, Product, capitalised, title_of

# From a page one folder below the results.
UP = "../"


def collected(captions: Sequence[Path], paths: Sequence[Path], results: Path) -> Iterator[tuple[Product, Tables]]:
    """Yield each analysis's product and the contents of its tables, in the order of the captions.

    captions: one .rst an analysis, named like it; paths: its outputs, files or folders, below results / its name. Links
    are relative to a page one folder below results. A product that says why it is empty gives its reason only.
    """
    for caption in captions:
        yield product_of(caption, [path for path in paths if path.is_relative_to(results / caption.stem)], results)


def product_of(caption: Path, paths: Sequence[Path], results: Path, up: str = UP) -> tuple[Product, Tables]:
    """The product of one analysis and the contents of its tables, by its caption and its own outputs.

    up: the way from the page to the results.
    """
    reasons = {path: reason_of(path) for path in paths}
    own = [path for path in paths if reasons[path] is None]
    folders = [path for path in own if path.is_dir()]
    frames = {path: read_table(path) for path in own if path.suffix == ".csv"}
    records = {path: read_json(path) for path in own if path.suffix == ".json"}
    product = Product(
        name=caption.stem,
        caption=caption.read_text(encoding="utf-8"),
        figures=[link(path, results, up) for path in own if path.suffix == ".png"],
        files=[link(path, results, up) for path in own if path.suffix != ".png" and path not in folders],
        more=[link(path, results, up) for folder in folders for path in sorted(folder.glob("*.png"))],
        tables=dict(_shown(results, results / caption.stem, frames)),
        not_applicable=together(reasons.values()),
    )
    return product, {path.name: content for path, content in {**frames, **records}.items()}


def _shown(results: Path, folder: Path, frames: dict[Path, pd.DataFrame]) -> Iterator[tuple[str, Excerpt]]:
    """Title and content of the tables that a page shows."""
    for path, table in frames.items():
        registered = table_of(path.relative_to(results).as_posix())
        part = shown(table, registered)
        if part is not None:
            # Names of files in the analysis's own folder begin with the model's, which keeps its underscores.
            title = capitalised(path.stem) if path.parent == folder else title_of(path.stem)
            yield title + (f" ({part[1]})" if part[1] else ""), Excerpt(part[0], labels(part[0], registered))


def link(path: Path, results: Path, up: str = UP) -> str:
    """A link to a file below results, from a page that lies `up` from there."""
    return f"{up}{path.relative_to(results).as_posix()}"
