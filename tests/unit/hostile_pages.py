"""Made-up tables of any analysis whose every text is somebody else's, and the pages that show them."""

import re
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from atlas_results import HOSTILE, inventory

from weight_atlas.artifacts import write_json, write_table
from weight_atlas.findings.gather import gathered
from weight_atlas.metrics import Table, tables
from weight_atlas.pages.html.sources import Artifacts
from weight_atlas.pages.pages import Places, write_overview, write_page
from weight_atlas.pages.series import write_series_page

# Keys that are numbers; all others are texts.
NUMBERS = {
    "layer", "expert", "head", "kv_head", "row", "column", "neuron", "channel", "position", "token_id", "from_layer",
    "from_head", "window", "document", "rank", "iteration", "factor", "draw",
}  # fmt: skip
# The analyses that each kind of page shows, by its folder below the atlas.
SHOWN = {
    "pairs": ("comparison", "side_by_side", "super_weight_inheritance"),
    "series": ("series",),
    "vectors": ("token_weights", "token_weight_frequency", "token_weight_evolution"),
    "models": ("quantization_recipe", "recipe_perplexity", "super_weights", "cascade", "untrained_rows"),
}
NAME = "own"


def texts_of(column: str) -> list[str]:
    """Hostile texts, each with the column that it stands in, so that none hides behind another's."""
    return [f"{text} {column}" for text in HOSTILE]


def hostile_table(table: Table) -> pd.DataFrame:
    """A row for each hostile text; numbers are drawn, and every column that is none holds the texts."""
    numbers = np.random.default_rng(zlib.crc32(table.name.encode()))
    count = len(HOSTILE)
    columns = {column: np.arange(count) for key, column in table.keys.items() if key in NUMBERS}
    texts = [*(column for key, column in table.keys.items() if key not in NUMBERS), *table.words]
    columns |= {column: texts_of(column) for column in texts if column not in columns}
    columns |= {each.column: numbers.uniform(1, 2, count) for each in table.metrics if each.column not in columns}
    return pd.DataFrame(columns)


def write_tables(results: Path, kind: str) -> list[Path]:
    """Write hostile tables of all analyses of a kind of page; their paths."""
    known = [table for table in tables().values() if table.step in SHOWN[kind]]
    return [_written(results, table) for table in known if table.file.endswith((".csv", ".parquet"))]


def _written(results: Path, table: Table) -> Path:
    path = results / re.sub(r"\{\w+\}", NAME, table.file)
    write_table(path, hostile_table(table))
    return path


def write_hostile_pages(results: Path) -> dict[str, Path]:
    """Pages of a pair, a series, a vector and a model, and the index with a lineage over them, by their kind."""
    pages = {kind: results / f"atlas/{kind}/{NAME}.html" for kind in SHOWN}
    captions = {name: results.parent / f"{name}.rst" for names in SHOWN.values() for name in (*names, "lineage")}
    for caption in captions.values():
        caption.write_text(f"How to read ``{HOSTILE[0]}`` with *{HOSTILE[1]}*.\n")
    summaries = {}
    for kind, page in pages.items():
        paths, own = write_tables(results, kind), [captions[name] for name in SHOWN[kind]]
        if kind == "series":
            finding = {"grade": "notable", "text": HOSTILE[0], "remedy": HOSTILE[1]}
            known = {"models": [NAME], "headline": [[HOSTILE[0], HOSTILE[1]]], "findings": [finding]}
            write_json(results / f"series/{NAME}.json", known)
            paths.append(results / f"series/{NAME}.json")
            write_series_page(results / f"atlas/series/{NAME}.md", page, page.with_suffix(""), NAME, own[0], paths)
            summaries[kind] = paths[-1]
            continue
        artifacts = Artifacts()
        if kind == "pairs":
            path = results / "tensor_inventory/a.parquet"
            write_table(path, inventory(3, suffix=HOSTILE[0]))
            artifacts = Artifacts(tensor_inventory=path)
        summaries[kind] = results / f"{kind}_page/{NAME}.json"
        places = Places(results / f"{kind}_page/{NAME}.md", page, page.with_suffix(""), summaries[kind])
        write_page(places, NAME, own, paths, gathered(paths, results), artifacts)
    lineage = [_written(results, table) for table in tables().values() if table.step == "lineage"]
    others = [[summaries[kind]] for kind in ("pairs", "series", "vectors")]
    index = results / "atlas/index.html"
    write_overview(
        results / "overview/models.md", index, index.with_suffix(""), [summaries["models"]], [captions["lineage"]],
        lineage, *others,
    )  # fmt: skip
    return {**pages, "index": index}
