"""A model as a scan sees it, in Python: the verbs of the command, with tables in place of a screen.

The numbers are those of the workflow: computed here, in this process, or read from results that are there.
"""

import html
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from weight_atlas.artifacts import read_json, read_table
from weight_atlas.errors import AtlasError, NotApplicable, unknown_name
from weight_atlas.metrics import metric, of, tables
from weight_atlas.metrics.ranked import RANKED
from weight_atlas.settings.methods import DEFAULT, analyses_of

if TYPE_CHECKING:
    from weight_atlas.api import Model

_GRADES = ("critical", "notable", "info")
_MOST = 10
_MEMORY_MB = 200  # as of a step


@dataclass(frozen=True)
class Scan:
    """What a scan found.

    tables: by analysis, a DataFrame each, with the columns of docs/metrics.md. findings: the gravest first, a row each
    (findings.gather). not_applicable: analyses that have no occasion in the model, with the reason.
    """

    model: str
    tables: Mapping[str, pd.DataFrame]
    findings: pd.DataFrame
    not_applicable: Mapping[str, str]

    def __getitem__(self, analysis: str) -> pd.DataFrame:
        """The table of an analysis; NotApplicable where it has no occasion in the model."""
        if analysis in self.not_applicable:
            raise NotApplicable(self.not_applicable[analysis], where=f"{self.model}: {analysis}")
        if analysis not in self.tables:
            raise unknown_name("analysis", analysis, list(self.tables), "scan")
        return self.tables[analysis]

    def top_issues(self, most: int = _MOST) -> pd.DataFrame:
        """The most unusual rows by each ranked metric: metric, place, value, and null, what chance would give.

        most: rows of each metric; AtlasError for fewer than none.
        """
        if most < 0:
            raise AtlasError(f"{most} rows are no number of rows", where="most", remedy="give 0 or more")
        found = [_worst(name, table, most) for name, table in self._ranked()]
        return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=_ISSUE)

    def _ranked(self) -> Iterable[tuple[str, pd.DataFrame]]:
        for each in RANKED:
            table = of(each.metric.rpartition(".")[0])
            rows = self.tables.get(table.step)
            if rows is not None and table.file == f"{table.step}/{{model}}.csv":
                yield each.metric, rows

    def __repr__(self) -> str:
        counts = ", ".join(f"{number} {grade}" for grade, number in self._counts().items()) or "no findings"
        return f"<scan of {self.model}: {', '.join(self.tables)}; {counts}>"

    def _counts(self) -> dict[str, int]:
        grades = self.findings["grade"].tolist()
        return {grade: grades.count(grade) for grade in _GRADES if grade in grades}

    def _repr_html_(self) -> str:
        """Findings and the most unusual numbers, for a notebook; texts of others are escaped."""
        shown = [f"<h4>{html.escape(self.model)}</h4>"]
        for row in self.findings.itertuples(index=False):
            shown.append(f"<p><b>{html.escape(row.grade)}</b> {html.escape(row.text)} "
                         f"<i>{html.escape(str(row.remedy or ''))}</i></p>")  # fmt: skip
        if self.findings.empty:
            shown.append("<p>no findings</p>")
        shown.append(self.top_issues(3).to_html(index=False, float_format="{:.4g}".format, na_rep=""))
        return "\n".join(shown)


class Scope:
    """A model to scan: "org/name" of the hub, "hf://org/name", a folder, a checkpoint file, "bundled:demo".

    results: a folder that the workflow wrote; what it holds of the model, which may then be named as it is there, is
    read and not computed. settings: as of weight_atlas.open.
    """

    def __init__(self, model: str, *, results: str | Path | None = None, device: str = "cpu", **settings: Any):
        self.results = None if results is None else Path(results)
        self.name = _name_in(self.results, model) if self.results is not None else None
        self.source = _source_in(self.results, self.name) if self.results is not None and self.name else _named(model)
        self._settings = {"device": device, **settings}

    @cached_property
    def model(self) -> "Model":
        """The opened model (weight_atlas.open), with all its analyses."""
        from weight_atlas.api import open as open_model

        return open_model(self.source, **self._settings)

    def scan(self, methods: Iterable[str] = DEFAULT, *, parallel: bool = False, num_workers: int | None = None) -> Scan:
        """Look at the weights by methods: basic_stats, spectral, quantization, ..., "all", or analyses by name.

        parallel: use num_workers threads, by itself as many as there are cores. AtlasError for a method that there is
        not, or one that needs the workflow's results.
        """
        if parallel and self.name is None:
            import os

            self.model.threads = num_workers or os.cpu_count() or 1
        found, skipped = {}, {}
        analyses = analyses_of(methods)
        for analysis in analyses:
            try:
                found[analysis] = self._table(analysis)
            except NotApplicable as error:
                skipped[analysis] = error.what
        return Scan(self.name or self.source, found, self._findings(analyses), skipped)

    def top_issues(self, most: int = _MOST, methods: Iterable[str] = DEFAULT) -> pd.DataFrame:
        """The most unusual rows by each ranked metric; see Scan.top_issues."""
        return self.scan(methods).top_issues(most)

    def compare_with(self, other: "str | Scope", methods: Iterable[str] = ()) -> dict[str, pd.DataFrame]:
        """What changed from this model to another one, and what methods find in both, side by side.

        "comparison", "comparison.heads" and others are the tables of the step `comparison`, and "comparison.findings"
        states what one model is of the other: read where the results hold this pair, else computed. Of each analysis
        of the methods a table: rows by their ids, a column of each model and the difference; rows that only one of the
        two has are there, with nothing in the columns of the other.
        """
        from weight_atlas.api.compared import compared, read_comparison

        scope = other if isinstance(other, Scope) else Scope(other, results=self._shared(other), **self._settings)
        found = None
        if self.results is not None and self.name is not None and scope.name is not None:
            found = read_comparison(self.results, self.name, scope.name)
        if found is None:
            found = compared(self.model, scope.model, memory_mb=_MEMORY_MB)
        methods = list(methods)
        if not methods:
            return found
        here, there = self.scan(methods), scope.scan(methods)
        both = [name for name in here.tables if name in there.tables]
        return found | {name: _beside(name, here.tables[name], there.tables[name]) for name in both}

    def _shared(self, other: str) -> Path | None:
        return self.results if self.results is not None and _is_in(self.results, other) else None

    def _table(self, analysis: str) -> pd.DataFrame:
        if self.results is not None and self.name is not None:
            path = self.results / analysis / f"{self.name}.csv"
            if path.exists():
                return read_table(path)
        if analysis not in _COMPUTED:
            raise AtlasError(
                f"{analysis} is not computed here", where="methods",
                remedy="make it with the workflow, and give its folder as `results`",
            )  # fmt: skip
        return _COMPUTED[analysis](self.model)

    def _findings(self, analyses: list[str]) -> pd.DataFrame:
        from weight_atlas.findings.gather import findings_of, findings_table, gathered
        from weight_atlas.findings.rules import files, rules

        if self.results is not None and self.name is not None:
            wanted = [self.results / file.format(model=self.name) for file in files() if file.split("/")[0] in analyses]
            return findings_table(gathered(sorted(path for path in wanted if path.exists()), self.results))
        needed = {rule.table for rule in rules().values() if rule.table.split(".")[0] in analyses}
        read = {}
        for name in needed:
            try:
                read[name] = self._judged(name)
            except NotApplicable:
                continue
        return findings_table(findings_of({name: table for name, table in read.items() if table is not None}))

    def _judged(self, name: str) -> pd.DataFrame | None:
        """A table that rules of findings read, computed here; None for one that only the workflow makes."""
        if name == "weight_profile":
            return self.model.profile()
        table = tables()[name]
        return self._table(table.step) if table.file == f"{table.step}/{{model}}.csv" else None


_ISSUE = ["metric", "title", "place", "value", "null"]


def _worst(name: str, rows: pd.DataFrame, most: int) -> pd.DataFrame:
    number = metric(name)
    place = next(key for key in ("id", "tensor") if key in rows)
    rows = rows[rows["cols"].notna()] if "cols" in rows else rows
    ranked = number.ranked(rows[rows[number.column].notna()]).head(most)
    null = number.null_of(ranked)
    return pd.DataFrame(
        {
            "metric": name,
            "title": number.title,
            "place": ranked[place].tolist(),
            "value": ranked[number.column].astype(float).tolist(),
            "null": [None] * len(ranked) if null is None else null.tolist(),
        },
        columns=_ISSUE,
    )


def _beside(analysis: str, here: pd.DataFrame, there: pd.DataFrame) -> pd.DataFrame:
    """Two tables of an analysis, joined by what says where a row is from."""
    table = next(each for each in tables().values() if each.file == f"{analysis}/{{model}}.csv")
    places = [column for key in ("id", "tensor", "stack", "layer", "component", "circuit", "head", "row", "column")
              if (column := table.keys.get(key)) in here and column in there]  # fmt: skip
    keys = places[:1] if places[:1] == ["id"] else places
    numbers = [each.column for each in table.metrics if each.column in here and each.column in there]
    both = here[keys + numbers].merge(there[keys + numbers], on=keys, how="outer", suffixes=("_a", "_b"), sort=False)
    differences = {f"{name}_difference": both[f"{name}_b"] - both[f"{name}_a"] for name in numbers}
    return pd.concat([both, pd.DataFrame(differences)], axis=1)


def _channels(model: "Model") -> pd.DataFrame:
    from weight_atlas.weights.channels import channel_table

    return channel_table(row for part in model._readings[1] for row in part.itertuples(index=False))[0]


def _quantized(model: "Model") -> pd.DataFrame:
    from weight_atlas.quantization.readiness import by_tensor

    return by_tensor(model.quantization_sensitivity())


def _heads(model: "Model") -> pd.DataFrame:
    from weight_atlas.spectra.attention_table import check_heads, head_table

    kernels = model.attention_kernels()
    check_heads(kernels)
    return head_table(kernels)


# By analysis, what gives the table {analysis}/{model}.csv of the workflow.
_COMPUTED: dict[str, Callable[["Model"], pd.DataFrame]] = {
    "weight_statistics": lambda model: model.statistics(),
    "weight_profile": _channels,
    "quantization_sensitivity": _quantized,
    "sparsity": lambda model: model.sparsity(),
    "effective_rank": lambda model: model.effective_rank(),
    "attention_head": _heads,
    "heavy_tail": lambda model: model.heavy_tails(),
    "embedding_geometry": lambda model: model.embedding_geometry(),
    "projection_pca": lambda model: model.projection_pca(),
    "head_similarity": lambda model: model.head_similarity(),
    "super_weight_screening": lambda model: model.super_weight_screening(),
}


def _named(model: str) -> str:
    """The source that a name means: a name of the hub may stand without hf://."""
    from weight_atlas.checkpoint.source import parse_source

    plain = ":" not in model and model.count("/") in (1, 2) and not Path(model).expanduser().exists()
    if plain and not model.startswith((".", "/", "~")):
        return f"hf://{model}"
    return parse_source(model).text


def _manifests(results: Path) -> dict[str, str]:
    """The sources of the models in results, by their names there."""
    found = sorted((results / "checkpoints").glob("*.json"))
    return {path.stem: read_json(path)["source"] for path in found}


def _is_in(results: Path, model: str) -> bool:
    known = _manifests(results)
    return model in known or model in known.values() or f"hf://{model}" in known.values()


def _name_in(results: Path, model: str) -> str:
    known = _manifests(results)
    if model in known:
        return model
    for name, source in known.items():
        if source in (model, f"hf://{model}"):
            return name
    raise unknown_name("model", model, list(known), results)


def _source_in(results: Path, name: str) -> str:
    return _manifests(results)[name]
