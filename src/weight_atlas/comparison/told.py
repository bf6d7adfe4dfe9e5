"""What the comparison of two models shows, as graded findings in plain sentences, the verdict first."""

from collections.abc import Iterator
from typing import Any

import pandas as pd

from weight_atlas.comparison.heads import SAME
from weight_atlas.comparison.verdict import NAMED, Relation, is_multiple, listed, written
from weight_atlas.families.roles import Role

# Metrics of the registry that findings rest on.
_COSINE, _DIRECTIONS = "comparison.summary.cosine_median", "comparison.resolved"
# A change is of low rank where the directions above what rounding leaves are at most this share of all.
LOW_RANK = 0.25
# Matrices at most this alike are others; with a norm this near, and values distributed this alike, moments do not tell.
OTHER, NEAR_NORM, NEAR_VALUES = 0.5, 0.02, 0.02
# Errors of rounding by one method are alike: so many times their median is none, where there are enough to tell.
OUT_OF_LINE, FEWEST = 2.5, 5
Finding = dict[str, Any]


def findings_of(
    found: Relation, table: pd.DataFrame, alone: pd.DataFrame, heads: pd.DataFrame, vocabulary: dict[str, Any] | None
) -> list[Finding]:
    """Findings as pages show them: grade, text; place, value, null_value, metric and remedy where there are some.

    table: see comparison_table; heads: of all changed matrices, see HEAD_COLUMNS; vocabulary: see vocabulary_counts.
    """
    first = {"grade": "notable", "text": found.text, "value": found.cosine, "null_value": found.null, "metric": _COSINE}
    if found.word in ("identical", "same values"):
        return [{**first, "grade": "info"}, *_vocabulary(vocabulary), *_alone(alone), *_renamed(table)]
    return [
        first,
        *_not_finite(table),
        *_vocabulary(vocabulary),
        *_alone(alone),
        *_renamed(table),
        *_permuted(heads),
        *_reordered(table),
        *(_edits(table, heads) if found.word in ("edited", "derived", "adapter", "empty") else ()),
        *(_multiplied(table) if found.word != "multiplied" else ()),
        *(_low_rank(table) if found.word != "multiplied" else ()),
        *(_rounded(table) if found.word == "rounded" else ()),
        *(_out_of_line(table) if found.word in ("rounded", "derived") else ()),
        *(_rotated(table) if found.word not in ("unrelated", "rearranged", "multiplied") else ()),
    ]


def _finding(grade: str, text: str, **more: Any) -> Finding:
    return {"grade": grade, "text": text, **more}


def _not_finite(table: pd.DataFrame) -> Iterator[Finding]:
    good = table[table["not_finite_a"] > table["not_finite_b"]]
    if len(good):
        places = [f"{row.id_a} ({row.not_finite_a:,})" for row in good.itertuples()]
        yield _finding(
            "notable",
            f"NaN or infinite values of a that b has not are in {len(good):,} of {len(table):,} tensors: "
            f"{listed(places)}.",
            place=good["id_a"].iloc[0],
            value=float(good["not_finite_a"].max()),
        )
    bad = table[table["not_finite_b"] > table["not_finite_a"]]
    if len(bad):
        places = [f"{row.id_b} ({row.not_finite_b:,})" for row in bad.itertuples()]
        yield _finding(
            "critical",
            f"NaN or infinite values that a has not are in {len(bad):,} of {len(table):,} tensors of b: "
            f"{listed(places)}.",
            place=bad["id_b"].iloc[0],
            value=float(bad["not_finite_b"].max()),
            remedy="Take the step back that made them; all numbers here are those of the other elements.",
        )


def _vocabulary(counts: dict[str, Any] | None) -> Iterator[Finding]:
    if counts is None or not counts["moved"] + counts["only_a"] + counts["only_b"]:
        return
    parts = [f"{counts['matched']:,} rows are matched by {counts['how']}"]
    parts += [f"{counts['moved']:,} of them stand at another number"] if counts["moved"] else []
    parts += [f"{counts['only_a']:,} are in a only{_such(counts['tokens_a'])}"] if counts["only_a"] else []
    parts += [f"{counts['only_b']:,} in b only{_such(counts['tokens_b'])}"] if counts["only_b"] else []
    yield _finding(
        "notable",
        f"The vocabulary has changed from {counts['rows_a']:,} to {counts['rows_b']:,} rows: {'; '.join(parts)}.",
        value=float(counts["rows_b"]),
        null_value=float(counts["rows_a"]),
    )


def _such(tokens: list[str]) -> str:
    return f" ({listed([repr(token) for token in tokens])})" if tokens else ""


def _alone(alone: pd.DataFrame) -> Iterator[Finding]:
    for side, words in (("a", "in a only"), ("b", "in b only"), ("both", "in both, and cannot be compared")):
        rows = alone[alone["side"] == side]
        if rows.empty:
            continue
        layers = sorted({int(layer) for layer in rows["layer"].dropna()})
        where = f", of layer{'s' * (len(layers) > 1)} {_span(layers)}" if layers else ""
        why = f" ({rows['reason'].iloc[0]})" if side == "both" else ""
        yield _finding(
            "notable",
            f"{_tensors(len(rows))} {words}{where}: {listed(rows['id'].tolist())}{why}.",
            place=rows["id"].iloc[0],
        )


def _tensors(count: int) -> str:
    return "1 tensor is" if count == 1 else f"{count:,} tensors are"


def _span(numbers: list[int]) -> str:
    if numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) > 2:
        return f"{numbers[0]} to {numbers[-1]}"
    return listed(list(map(str, numbers)))


def _renamed(table: pd.DataFrame) -> Iterator[Finding]:
    rows = table[table["renamed"] & (table["changed"] == 0)]
    if len(rows) and len(rows) < len(table) / 2:
        names = [f"{row.id_a} is {row.id_b}" for row in rows.itertuples()]
        what = (
            "tensor has another name and the same values"
            if len(rows) == 1
            else "tensors have other names and the same values"
        )
        yield _finding("notable", f"{len(rows):,} {what}: {listed(names)}.", place=rows["id_a"].iloc[0])
    elif len(rows):
        yield _finding(
            "info", f"The names differ, as of another format: {rows['id_a'].iloc[0]} is {rows['id_b'].iloc[0]}."
        )


def _permuted(heads: pd.DataFrame) -> Iterator[Finding]:
    moved = heads[heads["origin"].notna() & (heads["origin"] != heads["head"]) & (heads["origin_cosine"] >= SAME)]
    if moved.empty:
        return
    places = []
    for (layer, role), rows in moved.groupby(["layer", "role"], sort=False, dropna=False):
        pairs = ", ".join(f"{row.head} is what was {row.origin}" for row in rows.head(2).itertuples())
        places.append(f"layer {layer} {role} (head {pairs})")
    yield _finding(
        "notable",
        f"{len(moved):,} heads have changed places: {listed(places, '; ')}.",
        place=moved["id_a"].iloc[0],
        value=float(moved["origin_cosine"].min()),
        remedy="Where queries, keys, values and outputs of a layer changed alike, the model computes the same.",
    )


def _reordered(table: pd.DataFrame) -> Iterator[Finding]:
    rows = table[table["reordered"] != ""]
    if len(rows):
        places = [f"{row.id_a} ({row.reordered})" for row in rows.itertuples()]
        yield _finding(
            "notable",
            f"{len(rows):,} of {len(table):,} tensors have the rows or columns of a in another order, bit for bit: "
            f"{listed(places)}.",
            place=rows["id_a"].iloc[0],
            remedy="Where all matrices that share these neurons or heads changed alike, the model computes the same.",
        )


def _edits(table: pd.DataFrame, heads: pd.DataFrame) -> Iterator[Finding]:
    """What changed, place by place, where little did."""
    changed = table[(table["changed"] > 0) & (table["reordered"] == "")]
    if len(changed) > NAMED:
        top = changed[changed["relative"].notna()].sort_values("relative", ascending=False, kind="stable").head(NAMED)
        if top.empty:
            return
        places = [f"{row.id_a} ({row.relative:.3g})" for row in top.itertuples()]
        yield _finding("info", f"The relative change is largest in {', '.join(places)}.", place=top["id_a"].iloc[0])
        return
    for row in changed.itertuples():
        yield _finding("notable", _one_edit(row, heads), place=row.id_a, value=row.relative)


def _one_edit(row: Any, heads: pd.DataFrame) -> str:
    place = f"[{row.place_row}]" if pd.isna(row.place_col) else f"[{row.place_row}, {row.place_col}]"
    if row.changed == 1:
        bit = "" if pd.isna(row.flipped_bit) else f", one flipped bit (bit {row.flipped_bit} from the lowest)"
        return f"One value of {row.id_a} differs: {place} is {row.value_b:.6g}, was {row.value_a:.6g}{bit}."
    own = heads[(heads["id_a"] == row.id_a) & (heads["changed"] > 0)]
    count = int((heads["id_a"] == row.id_a).sum())
    inside = f" Only {_numbered('head', own['head'].tolist())} of its {count} changed." if 0 < len(own) < count else ""
    if not inside and not pd.isna(row.rows_changed) and 0 < row.rows_changed <= row.rows / 10:
        inside = f" Only {row.rows_changed:,} of its {row.rows:,} rows changed."
    if row.norm_b == 0 and row.norm_a > 0 and not row.not_finite_b:
        return f"{row.id_a} is all zero; a has values up to {abs(row.value_a):.4g} there."
    if max(row.not_finite_a, row.not_finite_b) == row.n:
        side = "b" if row.not_finite_b == row.n else "a"
        return f"{row.id_a} differs: {row.changed_share:.2%} of its values, none of them finite in {side}."
    return (
        f"{row.id_a} differs: {row.changed_share:.2%} of its values, relative change {row.relative:.3g}, the largest "
        f"at {place}, from {row.value_a:.4g} to {row.value_b:.4g}.{inside}{_scaled(row)}"
    )


def _scaled(row: Any) -> str:
    """What is said where b is a times a number, up to rounding."""
    if not is_multiple(row.norm_a, row.norm_b, row.cosine):
        return ""
    return f" It is that of a times {written(row.norm_b / row.norm_a * row.cosine)}."


def _multiplied(table: pd.DataFrame) -> Iterator[Finding]:
    """Tensors that were multiplied by numbers, where they are too many to be told one by one."""
    changed = table[table["changed"] > 0]
    rows = [row for row in changed.itertuples() if is_multiple(row.norm_a, row.norm_b, row.cosine)]
    if len(changed) > NAMED and rows:
        places = [f"{row.id_a} (times {written(row.norm_b / row.norm_a * row.cosine)})" for row in rows]
        yield _finding(
            "notable",
            f"{len(rows):,} of {len(changed):,} changed tensors are those of a times a number: {listed(places)}.",
            place=rows[0].id_a,
        )


def _numbered(what: str, numbers: list[int]) -> str:
    return f"{what} {numbers[0]}" if len(numbers) == 1 else f"{what}s {listed(list(map(str, numbers)))}"


def _low_rank(table: pd.DataFrame) -> Iterator[Finding]:
    """Changes of few directions, beyond what belongs to a few rows or to heads."""
    count = table[["rows", "cols"]].min(axis=1).astype(float)
    low = table[table["resolved"].notna() & (table["resolved"] > 0) & (table["resolved"] <= LOW_RANK * count)]
    low = low[(low["rows_changed"].fillna(low["rows"]) > 2 * low["resolved"]).fillna(False).astype(bool)]
    low = low[(low["n90"] <= low["resolved"]).fillna(False).astype(bool)]
    # One changed head, or a block of columns, has the rank of its size: that is said as what it is.
    low = low[low["changed_share"] > 0.5]
    if len(low):
        ranks = low["resolved"].astype(int)
        span = f"{ranks.min()}" if ranks.min() == ranks.max() else f"{ranks.min()} to {ranks.max()}"
        null = int(low["n90_null"].median())
        names = low["id_a"].tolist()
        whose = f"change of {names[0]} has" if len(low) == 1 else f"changes of {len(low):,} matrices have"
        yield _finding(
            "notable",
            f"The {whose} rank {span}, as of a LoRA: 90 % of the energy lie in {int(low['n90'].median())} directions, "
            f"of a random change in {null}{f': {listed(names)}' if len(low) > 1 else ''}.",
            place=low["id_a"].iloc[0],
            value=float(ranks.max()),
            null_value=float(null),
            metric=_DIRECTIONS,
        )


def _rounded(table: pd.DataFrame) -> Iterator[Finding]:
    changed = table[(table["dtype_a"] != table["dtype_b"]) & (table["changed"] > 0)]
    parts = []
    for (one, other), rows in changed.groupby(["dtype_a", "dtype_b"], sort=False):
        worst = rows.loc[rows["relative"].idxmax()]
        parts.append(
            f"{one} to {other}: {len(rows):,} tensors, relative error {rows['relative'].median():.3g} in the median, "
            f"{worst['relative']:.3g} in {worst['id_a']}"
        )
    yield _finding("info", f"{'; '.join(parts)}. {len(table) - len(changed):,} tensors kept their values or type.")
    moved = table[(table["dtype_a"] == table["dtype_b"]) & (table["changed"] > 0) & (table["role"] == Role.NORM.value)]
    if len(moved):
        verb = "norm has" if len(moved) == 1 else "norms have"
        yield _finding(
            "notable",
            f"{len(moved):,} {verb} other gains in the same type: {listed(moved['id_a'].tolist())}. Where factors "
            "were moved from norms into the matrices that read them, as AWQ and SmoothQuant do, the errors of these "
            "matrices are not those of rounding alone.",
            place=moved["id_a"].iloc[0],
            value=float(moved["relative"].max()),
        )


def _out_of_line(table: pd.DataFrame) -> Iterator[Finding]:
    """Few tensors whose error is far beyond that of the others of their types."""
    changed = table[(table["dtype_a"] != table["dtype_b"]) & (table["changed"] > 0)]
    for (one, other), rows in changed.groupby(["dtype_a", "dtype_b"], sort=False):
        median = rows["relative"].median()
        far = rows[rows["relative"] > OUT_OF_LINE * median].sort_values("relative", ascending=False)
        if len(rows) >= FEWEST and 0 < len(far) <= len(rows) / 4:
            places = [f"{row.id_a} ({row.relative:.3g})" for row in far.itertuples()]
            yield _finding(
                "notable",
                f"{one} to {other}: {len(far):,} of {len(rows):,} tensors {'is' if len(far) == 1 else 'are'} out of "
                f"line, with more than {OUT_OF_LINE:g} times the relative error of their like ({median:.3g} in the "
                f"median), as of a tensor that was changed too, or has values far beyond the others: {listed(places)}.",
                place=far["id_a"].iloc[0],
                value=float(far["relative"].iloc[0]),
                null_value=float(median),
            )


def _rotated(table: pd.DataFrame) -> Iterator[Finding]:
    norms = (table["norm_b"] / table["norm_a"] - 1).abs()
    rows = table[(table["cosine"] < OTHER) & (norms < NEAR_NORM) & (table["ks"] < NEAR_VALUES) & table["cols"].notna()]
    rows = rows[rows["reordered"] == ""]
    if len(rows):
        yield _finding(
            "notable",
            f"Of {len(rows):,} of {len(table):,} tensors norms and distributions of values agree, so that moments "
            f"would not tell, yet they are others: cosine {rows['cosine'].median():.2g} "
            f"({listed(rows['id_a'].tolist())}).",
            place=rows["id_a"].iloc[0],
            value=float(rows["cosine"].median()),
            remedy="A rotation, a permutation, or other random numbers: see the overlap of their subspaces.",
        )
