"""`weight-atlas compare`: two models, tensor by tensor, through the workflow."""

import json
from typing import Annotated

from cyclopts import Parameter

from weight_atlas import metrics
from weight_atlas.command.formats import check_outputs
from weight_atlas.command.options import DEFAULTS, NONE_OR_MORE, Options
from weight_atlas.command.project import FILE, Project
from weight_atlas.command.results import Extract, Result, extract, stated
from weight_atlas.command.scan import Methods, ask, conclude, make, targets
from weight_atlas.digest_records import check
from weight_atlas.errors import AtlasError
from weight_atlas.settings.methods import analyses_of

_MOST = 10
# Tables of a comparison in the order in which they are shown: what each is called there, what ranks its rows, columns.
_TABLES = {
    "comparison.tensors": ("Tensors that changed most", "relative",
                           ["id_a", "relative", "relative_null", "cosine", "n90", "n90_null"]),
    "comparison.heads": ("Heads that changed most", "relative",
                         ["id_a", "head", "relative", "cosine", "origin", "origin_cosine"]),
    "comparison.tokens": ("Tokens that changed most", "relative", ["token", "role", "row_a", "row_b", "relative"]),
    "comparison.alone": ("Tensors of one side", None, ["id", "side", "rows", "cols", "reason"]),
    "comparison.files": ("Files beside the weights", None, ["file", "field", "change", "value_a", "value_b"]),
    "side_by_side": ("Side by side", None, ["what", "item", "a", "b", "difference", "text_a", "text_b"]),
}  # fmt: skip


def compare(
    a: Annotated[str, Parameter(name=["--model1", "--a", "--base"], help="The first model, which changed.")],
    b: Annotated[str, Parameter(name=["--model2", "--b"], help="The second model, which it changed to.")],
    *,
    methods: Methods = [],  # noqa: B006 - read only
    top_changes: Annotated[
        int, Parameter(name=["--top-changes", "--top-issues"], validator=NONE_OR_MORE, help="Rows of each table.")
    ] = _MOST,
    options: Options = DEFAULTS,
) -> None:
    """Compare two models: what one is of the other, what changed, where and how much, beside what chance gives.

    Shapes, types and formats may differ: a fine-tune, a checkpoint, a quantized copy, a merge, an adapter, a stranger.
    Of the methods that are named, what they find in both stands side by side. `compare B A` is another comparison, of
    the change from B to A, and stands beside the first.

    ```
    weight-atlas compare ./base ./finetuned
    weight-atlas compare org/model org/model-GPTQ --methods spectral --output change.json
    ```
    """
    check_outputs(options.output)
    project = options.project()
    analyses = analyses_of(methods)
    names = ask(project, [a, b], analyses, options)
    if len(names) < 2:
        project.take_back()
        raise AtlasError("a model compared with itself", where=names[0], remedy="name two models")
    pair = _pair(project, names)
    project.write()
    files = [f"comparison/{pair}.csv", *([f"side_by_side/{pair}.csv"] if analyses else [])]
    outcome = make(project, names, targets(project, names, analyses, files, bool(analyses)), options)
    conclude(project, _results(project, pair, top_changes), outcome, options)


def _pair(project: Project, names: list[str]) -> str:
    """The name of a pair in the project, to which it is added unless it is there already, in this order."""
    from weight_atlas.comparison.choices import BETWEEN, pairs_of

    known = pairs_of(project.configured(), FILE)
    for name, models in known.items():
        if models == names:
            return name
    given = project.document.get("pairs")
    if given is not None and (given == "all" or isinstance(given.get("base"), str)):
        other = f"it has {names[1]} -> {names[0]}: ask for that, or " if names[::-1] in known.values() else ""
        raise AtlasError(
            f"`pairs` leaves out {names[0]} -> {names[1]}", where=project.path,
            remedy=f"{other}write the pairs by name there: pairs: {{name: [a, b]}}",
        )  # fmt: skip
    wanted = BETWEEN.join(names)
    free = (wanted if number < 2 else f"{wanted}-{number}" for number in range(1, len(known) + 2))
    name = next(each for each in free if each not in known)
    project.set_entry("pairs", name, names)
    project.configured()
    return name


def _results(project: Project, pair: str, most: int) -> list[Result]:
    path = project.results / "comparison" / f"{pair}.json"
    if not path.exists():
        return []
    check(path)
    summary = json.loads(path.read_text(encoding="utf-8"))
    whole = {key: value for key, value in summary["whole"].items() if value is not None}
    facts = {"relation": summary["relation"], **{key: whole[key] for key in ("relative", "cosine") if key in whole}}
    tables = [found for name in _TABLES for found in _table(project, name, pair, most)]
    source = f"{summary['a']} -> {summary['b']}: {summary['relation']}"
    findings = stated(summary["findings"], "comparison", path.relative_to(project.results).as_posix())
    return [Result(pair, source, facts, findings, [], extracts=tables, folder=project.results, of="pair")]


def _table(project: Project, name: str, pair: str, most: int) -> list[Extract]:
    """A table of the comparison, the rows that changed most first."""
    title, by, columns = _TABLES[name]
    found = extract(project, title, metrics.of(name).file.format(pair=pair), columns)
    for each in found:
        if by is not None:
            each.rows.sort(key=lambda row: -(row[by] if isinstance(row.get(by), int | float) else float("-inf")))
        del each.rows[most:]
    return found
