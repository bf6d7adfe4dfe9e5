"""Which schemes a tensor is ready for, and what a scheme costs a layer, a role and the model: from the table of errors.

No threshold on decibels themselves: a Gaussian tensor of a million weights has 39 dB in INT8 with one scale for all,
and none has 40. What counts is the loss against it.
"""

import math

import numpy as np
import pandas as pd

EXACT, READY, COSTLY, SENSITIVE = "exact", "ready", "costly", "sensitive"
ALL = "all"  # stands for the role in rows of all matrices


def label(loss_db: float, ready_db: float, sensitive_db: float) -> str:
    """What a loss against the Gaussian null says; 6 dB are one bit. exact: nothing is lost; "": nothing to lose."""
    if math.isnan(loss_db):
        return ""
    if loss_db == -math.inf:
        return EXACT
    return READY if loss_db <= ready_db else COSTLY if loss_db <= sensitive_db else SENSITIVE


def by_scheme(errors: pd.DataFrame) -> pd.DataFrame:
    """A row for each scheme and role, and each scheme over all matrices (role "all", first).

    errors: of quantization_sensitivity. Beside what all elements have together, the median over the matrices; worst:
    the matrix with the largest loss; ready, costly, sensitive: how many matrices.
    """
    keys = ["scheme", "role"]
    tables = [_with_counts(table, keys) for table in (errors.assign(role=ALL), errors)]
    return pd.concat(tables, ignore_index=True)


def by_layer(errors: pd.DataFrame) -> pd.DataFrame:
    """A row for each scheme, layer and role that has matrices in layers."""
    return _pooled(errors[errors["layer"].notna()], ["scheme", "stack", "layer", "role"]).reset_index()


def _pooled(errors: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Sums over the matrices of each group: the null has the energy of each, with the Gaussian error."""
    size = (errors["rows"] * errors["cols"]).astype(float)
    summed = errors[keys].assign(
        tensors=1,
        size=size,
        bits=errors["bits"] * size,
        energy=errors["energy"],
        error=errors["squared_error"],
        null=errors["energy"] * 10 ** (-errors["sqnr_db_null"] / 10),
    )
    sums = summed.groupby(keys, sort=False).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        sqnr, null = (10 * np.log10(sums["energy"] / sums[name]) for name in ("error", "null"))
        relative = np.sqrt(sums["error"] / sums["energy"]).fillna(0.0)
    return sums[["tensors"]].assign(
        bits=sums["bits"] / sums["size"],
        relative_error=relative,
        sqnr_db=sqnr,
        sqnr_db_null=null,
        loss_db=null - sqnr,
    )


def _with_counts(errors: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    groups = errors.groupby(keys, sort=False)
    counts = errors[keys].assign(
        ready=errors["readiness"].isin([READY, EXACT]),
        costly=errors["readiness"] == COSTLY,
        sensitive=errors["readiness"] == SENSITIVE,
    )
    known = errors.dropna(subset="loss_db")
    worst = known.loc[known.groupby(keys, sort=False)["loss_db"].idxmax()].set_index(keys)
    return (
        _pooled(errors, keys)
        .join(groups[["sqnr_db", "loss_db"]].median().add_suffix("_median"))
        .join(worst[["loss_db", "id"]].rename(columns={"loss_db": "worst_loss_db", "id": "worst"}))
        .join(counts.groupby(keys, sort=False).sum().astype(int))
        .reset_index()
    )


def by_tensor(errors: pd.DataFrame) -> pd.DataFrame:
    """A row for each matrix: the scheme with the fewest bits that it is ready for, and the one that it loses most in.

    int8, int4: its labels in INT8 by channel and in INT4 by groups of 128, where these were measured.
    """
    rows = []
    for _, group in errors.groupby("id", sort=False):
        ready = group[group["readiness"].isin([READY, EXACT])].sort_values(["bits", "loss_db"], kind="stable")
        losses, labels = group["loss_db"].dropna(), group.set_index("scheme")["readiness"]
        first = group.iloc[0]
        rows.append(
            {
                **{key: first[key] for key in ("id", "role", "stack", "layer", "expert", "rows", "cols", "dtype")},
                "int8_tensor": labels.get("int8/tensor", ""),
                "int8": labels.get("int8/channel", ""),
                "int4": labels.get("int4/group:128", ""),
                "ready_scheme": ready["scheme"].iloc[0] if len(ready) else "",
                "ready_bits": ready["bits"].iloc[0] if len(ready) else np.nan,
                "worst_scheme": group.loc[losses.idxmax(), "scheme"] if len(losses) else "",
                "worst_loss_db": losses.max() if len(losses) else np.nan,
                "sensitive": int((group["readiness"] == SENSITIVE).sum()),
            }
        )
    columns = [
        "id", "role", "stack", "layer", "expert", "rows", "cols", "dtype", "int8_tensor", "int8", "int4",
        "ready_scheme", "ready_bits", "worst_scheme", "worst_loss_db", "sensitive",
    ]  # fmt: skip
    integers = dict.fromkeys(("layer", "expert", "rows", "cols"), "Int64")
    return pd.DataFrame(rows, columns=columns).astype(integers)
