"""Series of checkpoints: the models that each stands for, in order. Light: the workflow uses it."""

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weight_atlas.checkpoint.listing import WEIGHT_SUFFIXES, is_weight_file, top_files
from weight_atlas.errors import AtlasError, unknown_name
from weight_atlas.natural_order import natural, numbers_of
from weight_atlas.paths import user_path
from weight_atlas.settings.configuration import Configuration
from weight_atlas.settings.messages import checked
from weight_atlas.settings.model_entries import Model
from weight_atlas.settings.series import Checkpoints, Series

# Label, source and revision of a checkpoint.
Found = tuple[str, str, str | None]


def gives_models(config: Mapping[str, Any]) -> bool:
    """Whether a configuration as it is written, right or wrong, says itself what to analyse."""
    series = config.get("series")
    entries = series.values() if isinstance(series, dict) else ()
    named = any(isinstance(entry, dict) and "source" in entry for entry in entries)
    return "models" in config or "models_table" in config or named


def with_checkpoints(configuration: Configuration, where: str) -> Configuration:
    """The configuration with a model for every checkpoint of a series that gives a source; series list their models.

    AtlasError for a model that is not known, a pattern that nothing matches, and a checkpoint with the name of another
    model.
    """
    models, listed = dict(configuration.models), {}
    for name, entry in configuration.series.items():
        listed[name] = entry.models or _added(models, name, entry, f"{where}: series.{name}")
    for name, members in listed.items():
        for model in members:
            if model not in models:
                raise unknown_name("model", model, models, f"{where}: series.{name}.models")
        if None not in (steps := numbers_of(members)):
            listed[name] = _by_steps(members, steps)
    if not models:
        remedy = "give `models`, `models_table` or `series`"
        raise AtlasError("no models to analyse", where=f"{where}: models", remedy=remedy)
    series = {name: entry.model_copy(update={"models": listed[name]}) for name, entry in configuration.series.items()}
    return configuration.model_copy(update={"models": models, "series": series})


def _by_steps(names: Sequence[str], steps: Sequence[int | None]) -> list[str]:
    """Names by their steps; those without one are last, in their order."""
    order = sorted(range(len(names)), key=lambda at: (steps[at] is None, steps[at] or 0, at))
    return [names[at] for at in order]


def _added(models: dict[str, Model], series: str, entry: Series, place: str) -> list[str]:
    """Add the checkpoints of a series that gives a source, with the keys of its entry, and return their names."""
    found = _revisions(entry) if entry.revisions else _local(str(entry.source), place)
    # What is written, and no defaults: those of a model depend on its effort.
    keys = {key: getattr(entry, key) for key in entry.model_fields_set & Model.model_fields.keys()}
    names = []
    for label, source, revision in found:
        name = f"{series}-{re.sub('[^A-Za-z0-9._-]+', '-', label).strip('-')}"
        if name in models:
            raise AtlasError(
                f"the checkpoint {label!r} would have the name of another model: {name!r}",
                where=place,
                remedy="rename the series or the model",
            )
        model = {**keys, "source": source, "revision": revision}
        models |= checked(Checkpoints, {"models": {name: model}}, place).models
        names.append(name)
    return names


def _revisions(entry: Series) -> list[Found]:
    """Label, source and revision of each checkpoint on the hub."""
    revisions = entry.revisions or []
    return [(each, str(entry.source), each) for each in _by_steps(revisions, numbers_of(revisions))]


def _local(source: str, place: str) -> list[Found]:
    """Label and source of each checkpoint that a pattern matches, in natural order."""
    pattern = user_path(source).as_posix()
    matches = glob.glob(pattern, recursive=True)  # noqa: PTH207 (Path.glob takes no absolute pattern)
    paths = sorted(
        (Path(match) for match in matches if _is_checkpoint(Path(match))), key=lambda path: natural(str(path))
    )
    if not paths:
        raise AtlasError("no checkpoint there", where=f"{place}.source: {source}", remedy="check the pattern")
    return [(label, path.as_posix(), None) for label, path in zip(_labels(paths), paths, strict=True)]


def _is_checkpoint(path: Path) -> bool:
    """Whether a path is a checkpoint file, or a folder that holds one; logs and empty folders are not."""
    if path.is_dir():
        return any(is_weight_file(name) for name in top_files(path))
    return path.suffix in WEIGHT_SUFFIXES


def _labels(paths: Sequence[Path]) -> list[str]:
    """Labels for paths: the parts in which they differ."""
    parts = [[*path.parent.parts, path.name if path.is_dir() else path.stem] for path in paths]
    width = max(map(len, parts))
    rows = [each + [""] * (width - len(each)) for each in parts]
    kept = [at for at in range(width) if len({row[at] for row in rows}) > 1] or [width - 1]
    return ["-".join(filter(None, (row[at] for at in kept))) for row in rows]


class Runs:
    """What the entries of `series` in a checked configuration mean. names: of all series."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._entries = config["series"]
        self.names = list(self._entries)

    def models(self, series: str) -> list[str]:
        """The checkpoints of a series, in order."""
        return list(self._entries[series]["models"])

    def steps(self, series: str) -> list[int]:
        """The step of each checkpoint, by the numbers in their names; [] where some have none."""
        steps = numbers_of(self.models(series))
        return [step for step in steps if step is not None] if None not in steps else []

    def before(self, series: str, model: str) -> dict[str, str]:
        """The checkpoint before a later one of the series, and the first of all, by what they are to it."""
        models = self.models(series)
        return {"previous": models[max(0, models.index(model) - 1)], "first": models[0]}

    def later(self, series: str) -> list[str]:
        """All checkpoints but the first."""
        return self.models(series)[1:]
