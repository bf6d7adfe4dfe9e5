"""Statistics of tensors as they are stored, where one holds several: fused projections, stacks of experts."""

from collections.abc import Iterable

import pandas as pd

from weight_atlas.weights.distribution import moments
from weight_atlas.weights.normality import ks_distance, ks_distance_null
from weight_atlas.weights.pooling import Pool

_COLUMNS = [
    "tensor", "stack", "layer", "pieces", "roles", "n", "mean", "std", "skew", "kurtosis", "min", "max", "ks_distance",
    "ks_distance_null",
]  # fmt: skip


def stored_statistics(parts: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """A row for each stored tensor of several pieces, pooled from them as the literature reports GPT-2's c_attn.

    parts: of histograms. Binned distributions are pooled by their bins, which moves moments by less than a bin's width.
    """
    pools: dict[str, Pool] = {}
    pieces: dict[str, list[dict]] = {}
    for part in parts:
        for row in part[part["id"] != part["tensor"]].to_dict("records"):
            pool = pools.setdefault(row["tensor"], Pool())
            pool.add(row["values"], row["counts"], row["distribution"], (row["min"], row["max"]))
            pieces.setdefault(row["tensor"], []).append({key: row[key] for key in ("role", "stack", "layer")})
    rows = []
    for name, pool in pools.items():
        values, counts = pool.distribution()
        shape, n, held = moments(values, counts), int(counts.sum()), pieces[name]
        rows.append(
            {
                "tensor": name,
                "stack": held[0]["stack"],
                "layer": held[0]["layer"],
                "pieces": len(held),
                "roles": " ".join(dict.fromkeys(piece["role"] for piece in held)),
                "n": n,
                **{key: getattr(shape, key) for key in ("mean", "std", "skew", "kurtosis")},
                "min": pool.low if n else float("nan"),
                "max": pool.high if n else float("nan"),
                "ks_distance": ks_distance(values, counts, pool.kind, shape.mean, shape.std) if n else float("nan"),
                "ks_distance_null": ks_distance_null(values, n, pool.kind, shape.mean, shape.std),
            }
        )
    return pd.DataFrame(rows, columns=_COLUMNS).astype({"layer": "Int64"})
