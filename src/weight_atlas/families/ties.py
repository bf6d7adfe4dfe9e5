"""Tied tensors: recorded, and counted once."""

from typing import TYPE_CHECKING, Any

from weight_atlas.families.architecture import Architecture
from weight_atlas.families.matching import Match
from weight_atlas.families.roles import Role

if TYPE_CHECKING:
    from weight_atlas.checkpoint.checkpoint import Checkpoint

_CHUNK = 1 << 26  # bytes compared at once
_HEADLESS = ("Model", "Classification", "QuestionAnswering", "MultipleChoice", "Encoder")


def tie(
    checkpoint: "Checkpoint", architecture: Architecture, rows: list[dict[str, Any]], matches: dict[str, Match]
) -> list[dict[str, Any]]:
    """Mark rows whose data is another tensor's, and add the embedding where only one of the two is stored.

    Copies that a family declares (`same_as`), and an output embedding that config.json does not say to be separate,
    count as tied when the stored values are the same. Of a model with a language model head that stores only the
    token embedding or only the head, either serves as the other, unless config.json says that they are separate: then
    one of them is missing and gets no row.
    """
    by_name = {row["tensor"]: row for row in rows}
    for row in rows:
        wanted = matches[row["tensor"]].row.same_as
        if wanted and (twin := _named(wanted, by_name)) is not None and twin is not row:
            _tie_if_same(checkpoint, row, twin)
    inputs = [row for row in rows if row["role"] == Role.W_E and not row["component"] and not row["tied_to"]]
    outputs = [row for row in rows if row["role"] == Role.W_U and not row["component"]]
    tied = architecture.tied_embeddings
    if tied is False:
        return rows
    for row in outputs if len(inputs) == 1 else ():
        if not row["tied_to"]:
            _tie_if_same(checkpoint, row, inputs[0])
    if _headless(architecture.name) or architecture.adapter:
        return rows
    said = "" if tied else ", as far as config.json tells"
    if len(inputs) == 1 and not outputs:
        return [*rows, _twin(inputs[0], Role.W_U, f"not stored: the model uses the token embedding{said}")]
    if tied and len(outputs) == 1 and not inputs:
        return [*rows, _twin(outputs[0], Role.W_E, "not stored: the model uses the output embedding")]
    return rows


def _tie_if_same(checkpoint: "Checkpoint", row: dict[str, Any], twin: dict[str, Any]) -> None:
    if same_values(checkpoint, row["tensor"], twin["tensor"]):
        row["tied_to"] = twin["tied_to"] or twin["tensor"]


def _named(wanted: str, by_name: dict[str, dict]) -> dict[str, Any] | None:
    return next((row for name, row in by_name.items() if name == wanted or name.endswith(f".{wanted}")), None)


def _headless(name: str) -> bool:
    """Whether an architecture of this name is a bare body or a classifier, to which no output embedding belongs."""
    return name.endswith(_HEADLESS) and not name.endswith(("LMHeadModel", "DoubleHeadsModel", "MTModel"))


def _twin(stored: dict[str, Any], role: Role, note: str) -> dict[str, Any]:
    """The row of an embedding that is not stored, whose data is the other one's."""
    return stored | {
        "role": role.value,
        "piece": role.value,
        "id": f"{stored['tensor']}#{role.value}",
        "tied_to": stored["tensor"],
        "note": note,
    }


def same_values(checkpoint: "Checkpoint", first: str, second: str) -> bool:
    """Whether two tensors hold the same values in the same type, compared a few rows at a time."""
    import torch

    one, other = checkpoint.entries[first], checkpoint.entries[second]
    if (one.shape, one.dtype) != (other.shape, other.dtype) or one.note or other.note:
        return False
    if (one.shard, one.offset) == (other.shard, other.offset) and one.offset >= 0:
        return True
    total = one.shape[0] if one.shape else 1
    step = max(1, _CHUNK * total // max(1, one.bytes))
    ranges = [slice(begin, min(begin + step, total)) for begin in range(0, total, step)] if one.shape else [None]
    return all(torch.equal(_bytes(checkpoint, first, rows), _bytes(checkpoint, second, rows)) for rows in ranges)


def _bytes(checkpoint: "Checkpoint", name: str, rows: slice | None) -> Any:
    # As bytes, since NaN differs from itself and not every stored type can be compared.
    import torch

    return checkpoint.read(name, rows).reshape(-1).contiguous().view(torch.uint8)
