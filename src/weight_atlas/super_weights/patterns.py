"""Super weights over models: how many, of which kind, how deep, and which of them share a channel or a neuron."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from weight_atlas.interventions.kinds import INTO_NEURONS

WEIGHTS = (
    "model", "architecture", "layer", "depth", "phase", "role", "component", "expert", "row", "column", "channel",
    "neuron", "verdict", "delta_nll", "same_channel", "same_neuron", "pattern",
)  # fmt: skip
MODELS = (
    "model", "architecture", "family", "n_layers", "verdict", "super_weights", "inert", "sets", "joint_delta_nll",
    "roles", "w_down", "attention", "gate_up", "embeddings", "norms_biases", "in_experts", "early", "middle",
    "late", "outside", "channels", "neurons", "pattern", "note",
)  # fmt: skip
# Of matrices (out, in): those whose rows, and those whose columns, are channels of the residual stream.
WRITE = ("W_down", "W_O")
READ = ("W_Q", "W_K", "W_V", "W_gate", "W_up", "W_router", "W_E", "W_pos", "W_U", "W_Q_a", "W_KV_a")
BEFORE = ("W_E", "W_pos", "W_type")
PHASES = ("before", "early", "middle", "late", "after")
INERT = "inert"


def weights_table(model: str, verdict: dict, configuration: Mapping[str, Any]) -> pd.DataFrame:
    """The verified weights of a model, one row each: WEIGHTS.

    verdict: the artifact of the verification. configuration: of the architecture summary. channel: of the residual
    stream, that the weight writes or reads. depth: (layer + 1/2) / layers, 0 for embeddings, 1 for what comes after the
    layers; phase: its third. same_channel: other super weights of the model in that channel; same_neuron: others of the
    same neuron. Inert weights have neither.
    """
    rows = [_row(model, record, configuration) for record in verdict["super_weights"]]
    table = pd.DataFrame(rows, columns=list(WEIGHTS))
    table["same_channel"] = _others(table, ["channel"])
    table["same_neuron"] = _others(table, ["layer", "expert", "component", "neuron"], needed="neuron")
    shared = table[["same_channel", "same_neuron"]].astype(float)
    table["pattern"] = [_pattern(*numbers) for numbers in shared.itertuples(index=False)]
    whole = ("layer", "expert", "row", "column", "channel", "neuron", "same_channel", "same_neuron")
    return table.astype(dict.fromkeys(whole, "Int64"))


def models_table(
    tables: Mapping[str, pd.DataFrame],
    verdicts: Mapping[str, dict],
    configurations: Mapping[str, Mapping[str, Any]],
    left_out: Mapping[str, str],
) -> pd.DataFrame:
    """Counts of each model's super weights, one row a model in order of architectures: MODELS.

    tables: of weights_table, by model. left_out: models without a verification, and why; their counts are missing.
    """
    rows = [_counts(model, table, verdicts[model], configurations[model]) for model, table in tables.items()]
    rows += [{"model": model, "note": reason} for model, reason in left_out.items()]
    found = pd.DataFrame(rows, columns=list(MODELS))
    found = found.sort_values("architecture", kind="stable", na_position="last", ignore_index=True)
    text = ("model", "architecture", "family", "verdict", "roles", "pattern", "note")
    whole = [name for name in MODELS if name not in (*text, "joint_delta_nll")]
    return found.astype({**dict.fromkeys(whole, "Int64"), "joint_delta_nll": float})


def _row(model: str, record: dict, configuration: Mapping[str, Any]) -> dict:
    role, layer, layers = record["role"], record["layer"], configuration["n_layers"]
    row, column = record["row"], record["column"]
    outside = layer < 0
    depth = (0.0 if role in BEFORE else 1.0) if outside else (layer + 0.5) / layers
    phase = ("before" if role in BEFORE else "after") if outside else PHASES[1 + min(2, 3 * layer // layers)]
    writes = role in WRITE or role == "norm" or role in [f"{each}.bias" for each in WRITE]
    return {
        "model": model,
        "architecture": configuration.get("architecture"),
        "layer": None if outside else layer,
        "depth": depth,
        "phase": phase,
        **{key: record[key] for key in ("role", "component", "row", "column", "verdict", "delta_nll")},
        "expert": record["expert_id"],
        "channel": row if writes else column if role in READ else None,
        "neuron": column if role == "W_down" else row if role in INTO_NEURONS else None,
    }


def _others(table: pd.DataFrame, by: list[str], needed: str = "channel") -> list[int | None]:
    """For each super weight how many others agree with it in some columns; None where one it needs is missing."""
    keys = [
        tuple(None if pd.isna(value) else value for value in row) if _counts_here(row, table, needed, number) else None
        for number, row in enumerate(table[by].itertuples(index=False))
    ]
    shared = Counter(key for key in keys if key is not None)
    return [None if key is None else shared[key] - 1 for key in keys]


def _counts_here(row: tuple, table: pd.DataFrame, needed: str, number: int) -> bool:
    return not pd.isna(table[needed].iloc[number]) and table.verdict.iloc[number] != INERT


def _pattern(channel: float, neuron: float) -> str | None:
    """What a weight shares with others, of whom these are the numbers; None where neither is known."""
    if pd.isna(channel) and pd.isna(neuron):
        return None
    several = [*(["one neuron"] if neuron > 0 else []), *(["one channel"] if channel > 0 else [])]
    return " and ".join(several) or "alone"


def _counts(model: str, table: pd.DataFrame, verdict: dict, configuration: Mapping[str, Any]) -> dict:
    own = table[table.verdict != INERT]
    roles = own.role.value_counts(sort=False).sort_index(key=lambda names: names.map(_order))
    joint = verdict.get("joint")
    phases = own.phase.value_counts()
    return {
        **{key: configuration.get(key) for key in ("architecture", "family", "n_layers")},
        "model": model,
        "verdict": verdict["verdict"],
        "super_weights": len(own),
        "inert": len(table) - len(own),
        "sets": len(verdict.get("sets", ())),
        "joint_delta_nll": None if joint is None else joint["delta_nll"],
        "roles": ", ".join(f"{count} {role}" for role, count in roles.items()) or None,
        "w_down": int((own.role == "W_down").sum()),
        "attention": int(own.role.str.match(r"W_(Q|K|V|O|KV|attn)(_|$)").sum()),
        "gate_up": int(own.role.isin(INTO_NEURONS).sum()),
        "embeddings": int(own.role.isin((*BEFORE, "W_U")).sum()),
        "norms_biases": int((own.role.str.startswith("norm") | own.role.str.endswith(".bias")).sum()),
        "in_experts": int(own.expert.notna().sum()),
        **{phase: int(phases.get(phase, 0)) for phase in PHASES[1:4]},
        "outside": int(phases.get("before", 0) + phases.get("after", 0)),
        "channels": own.channel.nunique(),
        "neurons": len(own[own.neuron.notna()].drop_duplicates(["layer", "expert", "component", "neuron"])),
        "pattern": _told(own),
    }


def _told(own: pd.DataFrame) -> str | None:
    """The pattern of a model's super weights in a few words."""
    if len(own) < 2:
        return None
    parts: Sequence[str] = [
        *(["one neuron writes several channels"] if (own.same_neuron.fillna(0) > 0).any() else []),
        *(["several weights share a channel"] if (own.same_channel.fillna(0) > 0).any() else []),
    ]
    return "; ".join(parts) or "each alone"


def _order(role: str) -> tuple[int, str]:
    known = [*WRITE, *READ]
    return (known.index(role) if role in known else len(known)), role
