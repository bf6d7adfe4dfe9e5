"""Two models side by side: what is compared with what, and how both sides of it are read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch

from weight_atlas.comparison.pairing import ALONE_COLUMNS, KEY, PAIR_COLUMNS, paired
from weight_atlas.comparison.sources import Source, Stored
from weight_atlas.comparison.token_rows import TokenRows, token_rows
from weight_atlas.comparison.updates import Changed, changed_rows, others, update_of, updated, updates
from weight_atlas.errors import AtlasError
from weight_atlas.families.adapters import is_adapter
from weight_atlas.families.pieces import load_piece

if TYPE_CHECKING:
    from weight_atlas.checkpoint.checkpoint import Checkpoint


NOT_COMPARED = "what it does to the model is not compared"


@dataclass(frozen=True)
class Side:
    """One model: its checkpoint, its inventory, and the spellings of its tokens by number, none without a tokenizer."""

    checkpoint: "Checkpoint"
    inventory: pd.DataFrame
    tokens: Sequence[str | None] = ()


class Sides:
    """What of model a is compared with what of model b.

    pairs: a row each, see PAIR_COLUMNS; of an adapter a row for each tensor that it changes. alone: see ALONE_COLUMNS.
    tokens: how the rows of the vocabularies are matched; None where none are compared. adapter: the side that is an
    adapter to the other, "a" or "b"; None where neither is, or both are.
    """

    def __init__(self, a: Side, b: Side) -> None:
        self._a, self._b = a, b
        self._rows = [{row.id: row for row in side.inventory.itertuples(index=False)} for side in (a, b)]
        self._changes: dict[str, tuple[str, Changed | None, Changed | None, Any]] = {}
        kinds = [is_adapter(side.checkpoint.config, side.inventory["tensor"]) for side in (a, b)]
        self.adapter = None if kinds[0] == kinds[1] else "ab"[kinds[1]]
        if kinds == [False, False]:
            self.pairs, self.alone = paired(a.inventory, b.inventory)
            self._find_renamed()
        elif kinds == [True, True]:
            self.pairs, self.alone = self._of_two_adapters()
        else:
            self.pairs, self.alone = self._of_adapter("b" if kinds[1] else "a")
        self.tokens = self._token_rows()

    def load(self, row: Any) -> tuple[Source, Source]:
        """Both sides of a row of pairs, of one shape: of a vocabulary the rows that stand for the same tokens."""
        if row.id_a in self._changes:
            return self._load_change(row)
        a = load_piece(self._a.checkpoint, self._rows[0][row.id_a])
        b = load_piece(self._b.checkpoint, self._rows[1][row.id_b])
        if row.by_token and self.tokens is not None and not self.tokens.identity:
            a, b = a[torch.from_numpy(self.tokens.a)], b[torch.from_numpy(self.tokens.b)]
        return Stored(a), Stored(b)

    @property
    def both(self) -> tuple[Side, Side]:
        """a and b."""
        return self._a, self._b

    @property
    def inventories(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The inventories of both."""
        return self._a.inventory, self._b.inventory

    @property
    def checkpoints(self) -> "tuple[Checkpoint, Checkpoint]":
        """The checkpoints of a and b."""
        return self._a.checkpoint, self._b.checkpoint

    def spelled(self, side: str, row: int) -> str | None:
        """The spelling of the token of a row of model a or b, as far as its tokenizer tells."""
        tokens = self._a.tokens if side == "a" else self._b.tokens
        return tokens[row] if row < len(tokens) else None

    def _token_rows(self) -> TokenRows | None:
        matched = self.pairs[self.pairs["by_token"]]
        if matched.empty:
            return None
        first = matched.iloc[0]
        rows = int(self._rows[0][first["id_a"]].rows), int(self._rows[1][first["id_b"]].rows)
        found = token_rows(self._a.tokens, self._b.tokens, *rows)
        sizes = matched.assign(b=[int(self._rows[1][name].rows) for name in matched["id_b"]])[["rows", "b"]]
        if not found.identity and sizes.drop_duplicates().shape[0] > 1:
            raise AtlasError(
                "the embeddings of one model have different numbers of rows, so that tokens cannot be matched",
                where=", ".join(matched["id_a"]),
                remedy="compare models whose embedding and unembedding have one vocabulary",
            )
        return found

    def _find_renamed(self) -> None:
        """Make pairs of tensors that stand alone on both sides and hold the same bytes: one that was renamed."""
        alone = self.alone
        for _, rows in alone.groupby(["rows", "cols", "dtype"], dropna=False, sort=False):
            if {"a", "b"} <= set(rows["side"]):
                contents = [
                    {self._digest(side, name): name for name in rows.loc[rows["side"] == key, "id"]}
                    for side, key in ((0, "a"), (1, "b"))
                ]
                for digest in contents[0].keys() & contents[1].keys():
                    self._pair_renamed(contents[0][digest], contents[1][digest])

    def _digest(self, side: int, name: str) -> str:
        row = self._rows[side][name]
        if not row.readable:
            return f"{side} {name}"
        tensor = load_piece((self._a, self._b)[side].checkpoint, row)
        return hashlib.blake2b(tensor.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest()

    def _pair_renamed(self, name_a: str, name_b: str) -> None:
        row, twin = self._rows[0][name_a], self._rows[1][name_b]
        pair = {
            **{key: getattr(row, key) for key in KEY},
            "id_a": name_a,
            "id_b": name_b,
            "rows": row.rows,
            "cols": row.cols,
        }
        pair |= {"dtype_a": row.dtype, "dtype_b": twin.dtype, "n_heads": None, "renamed": True, "by_token": False}
        made = pd.DataFrame([pair], columns=PAIR_COLUMNS).astype(self.pairs.dtypes.to_dict())
        self.pairs = pd.concat([self.pairs, made], ignore_index=True)
        gone = ((self.alone["side"] == "a") & (self.alone["id"] == name_a)) | (
            (self.alone["side"] == "b") & (self.alone["id"] == name_b)
        )
        self.alone = self.alone[~gone].reset_index(drop=True)

    def _of_adapter(self, side: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """A model and an adapter to it, which is on the given side: a row for each tensor that it changes."""
        adapter, model = (self._b, self._a) if side == "b" else (self._a, self._b)
        rows, alone = self._stored_whole(adapter, model, side)
        for update in updates(adapter.inventory):
            found = list(changed_rows(update, model.inventory))
            for row in found:
                rows.append(self._pair_of_change(row, update))
                self._changes[row.id] = (side, update, None, row)
            if not found:
                alone.append(_unused(side, update.down, "the model has no tensor that it changes"))
        if not rows:
            what = "in a way that cannot be compared" if any(each["reason"] == NOT_COMPARED for each in alone) else ""
            raise AtlasError(
                f"the adapter changes the model that it is compared with {what}"
                if what
                else "the adapter changes no tensor of the model that it is compared with",
                where=adapter.checkpoint.folder,
                remedy="merge it into its model, and compare the merged model"
                if what
                else "compare it with the model that it was trained for; adapter_config.json names it",
            )
        return _frames(rows, alone)

    def _stored_whole(self, adapter: Side, model: Side, side: str) -> tuple[list, list]:
        """What an adapter holds beside its updates: pairs of tensors that it stores whole, and what it has alone."""
        whole, parts = others(adapter.inventory)
        pairs, alone = paired(*((model.inventory, whole) if side == "b" else (whole, model.inventory)))
        # What the adapter leaves as it is stands alone on the model's side.
        kept = alone[alone["side"].isin([side, "both"])]
        unused = [_unused(side, row, NOT_COMPARED) for row in parts.itertuples()]
        return pairs.assign(renamed=False).to_dict("records"), [*kept.to_dict("records"), *unused]

    def _of_two_adapters(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        one, other = ({each.place: each for each in updates(side.inventory)} for side in (self._a, self._b))
        (whole, parts), (whole_b, parts_b) = (others(side.inventory) for side in (self._a, self._b))
        pairs, rest = paired(whole, whole_b)
        rows, alone = pairs.to_dict("records"), rest.to_dict("records")
        for side, table in (("a", parts), ("b", parts_b)):
            alone += [_unused(side, row, NOT_COMPARED) for row in table.itertuples()]
        for place, update in one.items():
            if place in other:
                row = self._pair_of_change(update.down, update, other[place])
                rows.append(row)
                self._changes[row["id_a"]] = ("both", update, other[place], None)
            else:
                alone.append(_unused("a", update.down, "only in a"))
        alone += [_unused("b", update.down, "only in b") for place, update in other.items() if place not in one]
        return _frames(rows, alone)

    def _pair_of_change(self, row: Any, update: Changed, other: Changed | None = None) -> dict[str, Any]:
        """A row of pairs for a tensor that an adapter changes, or for the updates of two."""
        both = other is not None
        sizes = (update.up.rows, update.down.cols) if both else (row.rows, row.cols)
        if both and "lora_embedding" in update.down.tensor:
            sizes = sizes[::-1]
        return {
            **{key: getattr(row, key) for key in KEY},
            "role": row.of_role if both else row.role,
            "of_role": "" if both else row.of_role,
            "id_a": update.down.tensor if both else row.id,
            "id_b": other.down.tensor if other is not None else update.down.tensor,
            "rows": sizes[0],
            "cols": sizes[1],
            "dtype_a": row.dtype,
            "dtype_b": other.down.dtype if other is not None else update.down.dtype,
            "n_heads": None if both else row.n_heads,
            "renamed": False,
            "by_token": False,
        }

    def _load_change(self, row: Any) -> tuple[Source, Source]:
        side, update, other, of = self._changes[row.id_a]
        if update is not None and other is not None:
            return update_of(self._a.checkpoint, update, None), update_of(self._b.checkpoint, other, None)
        assert update is not None
        model, adapter = (self._a, self._b) if side == "b" else (self._b, self._a)
        base, changed = updated(model.checkpoint, adapter.checkpoint, update, of)
        return (base, changed) if side == "b" else (changed, base)


def _unused(side: str, row: Any, reason: str) -> dict[str, Any]:
    kept = {name: getattr(row, name) for name in [*KEY, "rows", "cols", "dtype"]}
    return {"side": side, "id": row.tensor, **kept, "reason": reason}


def _frames(rows: list, alone: list) -> tuple[pd.DataFrame, pd.DataFrame]:
    whole = ["layer", "expert", "rows", "cols"]
    pairs = pd.DataFrame(rows, columns=PAIR_COLUMNS).astype(dict.fromkeys([*whole, "n_heads"], "Int64"))
    return pairs, pd.DataFrame(alone, columns=ALONE_COLUMNS).astype(dict.fromkeys(whole, "Int64"))
