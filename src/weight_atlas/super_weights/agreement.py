"""Published coordinates of super weights, and the agreement of a detection with them."""

import re
from importlib import resources

import pandas as pd

from weight_atlas.live.anatomy import Coordinate

COLUMNS = ("model", "layer", "row", "column", "source", "note", "found", "rank_in_tensor")


def published_coordinates() -> pd.DataFrame:
    """The package's table of them: model, its size, coordinate, source, note."""
    path = resources.files(__package__) / "published_coordinates.csv"
    with path.open(encoding="utf-8") as file:
        return pd.read_csv(file, keep_default_na=False)


def known_as(source: str, layers: int, d_model: int, d_ff: int) -> pd.DataFrame:
    """The published coordinates of a model, by its name and its size; none for an unknown model.

    source: a hub id with or without a revision, a folder, a file, a snapshot in the hub's cache: any part of it may be
    the name. Variants with their base model's coordinates are listed in published_names.yaml. The size excludes models
    that only have a similar name.
    """
    table = published_coordinates()
    known = {model for part in _parts(source) for model in _models_called(part)}
    size = (table.layers == layers) & (table.d_model == d_model) & (table.d_ff == d_ff)
    return table[table.model.isin(known) & size].reset_index(drop=True)


def _parts(source: str) -> list[str]:
    """The parts of a path that may be a model's name, in lower case.

    The hub's cache has models--org--name; a hub id may end in @revision, a file in its type.
    """
    parts = re.split(r"[/\\]", source.lower())
    names = [part.partition("@")[0].rpartition("--")[2].rpartition(":")[2] for part in parts]
    return [re.sub(r"\.(safetensors|bin|pt|pth|ckpt)$", "", name) for name in names]


def _models_called(name: str) -> list[str]:
    import yaml

    data = yaml.safe_load((resources.files(__package__) / "published_names.yaml").read_text(encoding="utf-8"))
    additions = f"([-_.]({'|'.join(data['additions'])}))*"
    return [
        model
        for model, patterns in data["names"].items()
        if any(re.fullmatch(f"({pattern}){additions}", name) for pattern in patterns)
    ]


def agreement(published: pd.DataFrame, found: list[Coordinate], rank: dict[tuple[int, int, int], int]) -> pd.DataFrame:
    """One row per published coordinate: whether it was found, and its rank by |W| in its matrix.

    rank: (layer, row, column) -> 1 for the largest of the matrix.
    """
    coordinates = {(weight.layer, weight.row, weight.col) for weight in found}
    table = published.assign(
        found=[(row.layer, row.row, row.column) in coordinates for row in published.itertuples()],
        rank_in_tensor=[rank.get((row.layer, row.row, row.column)) for row in published.itertuples()],
    )
    return table[list(COLUMNS)].astype({"rank_in_tensor": "Int64"})


def agreement_findings(agreement: pd.DataFrame) -> list[dict[str, str]]:
    """One finding on how far a detection agrees with the published coordinates of a known model; none for another."""
    if agreement.empty:
        return []
    count, total, model = int(agreement.found.sum()), len(agreement), agreement.model.iloc[0]
    if count == total:
        return [{"grade": "info", "text": f"All {total} published coordinates of {model} are found."}]
    missed = [f"layer {row.layer} [{row.row}, {row.column}]" for row in agreement[~agreement.found].itertuples()]
    some = f"{count} of {total}" if count else f"None of {total}"
    text = f"{some} published coordinates of {model} are found; not found: {', '.join(missed)}."
    return [{"grade": "notable", "text": text}]
