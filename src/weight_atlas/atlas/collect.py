"""From the files that analyses left to what a page shows of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from weight_atlas.atlas.headline import Tables
from weight_atlas.atlas.page import Product, title_of
from weight_atlas.atlas.tables import shown
from weight_atlas.tables import read_json, read_table


def collected(captions: Sequence[Path], paths: Sequence[Path], results: Path) -> Iterator[tuple[Product, Tables]]:
    """Yield each analysis's product and the contents of its tables, in the order of the captions.

    captions: one .rst an analysis, named like it; paths: its outputs, files or folders, below results / its name. Links
    are relative to a page one folder below results.
    """
    for caption in captions:
        own = [path for path in paths if path.is_relative_to(results / caption.stem)]
        folders = [path for path in own if path.is_dir()]
        frames = {path: read_table(path) for path in own if path.suffix == ".csv"}
        records = {path: read_json(path) for path in own if path.suffix == ".json"}
        product = Product(
            name=caption.stem,
            caption=caption.read_text(encoding="utf-8"),
            figures=[link(path, results) for path in own if path.suffix == ".png"],
            files=[link(path, results) for path in own if path.suffix != ".png" and path not in folders],
            more=[link(path, results) for folder in folders for path in sorted(folder.glob("*.png"))],
            tables=dict(_shown(caption.stem, frames)),
        )
        yield product, {path.name: content for path, content in {**frames, **records}.items()}


def _shown(analysis: str, frames: dict[Path, pd.DataFrame]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Title and content of the tables that a page shows."""
    for path, table in frames.items():
        part = shown(analysis, table)
        if part is not None:
            yield title_of(path.stem) + (f" ({part[1]})" if part[1] else ""), part[0]


def link(path: Path, results: Path) -> str:
    """A link to a file below results, from a page one folder below it."""
    return f"../{path.relative_to(results).as_posix()}"
