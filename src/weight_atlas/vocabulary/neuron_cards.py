"""A card for each neuron: moments, label, top tokens and enriched classes, with field names of published tools."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.statistics.corrections import false_discovery_rates
from weight_atlas.vocabulary.down_projections import projections_of
from weight_atlas.vocabulary.effects import cosine_effects, direct_effects, moments, scalar_effects, top_tokens
from weight_atlas.vocabulary.enrichment import Classes, enrichment, examples, prepare_classes
from weight_atlas.vocabulary.neurons import NeuronBlock, neuron_blocks
from weight_atlas.vocabulary.readout import Readout, read_readout
from weight_atlas.vocabulary.token_classes import class_matrix, rows_with_tokens, text_tokens

# Corrected p value below which a card names a class as enriched.
SIGNIFICANCE = 0.05
CSV_COLUMNS = (
    "model", "layer", "expert", "component", "neuron", "label", "selected_by", "norm", "mean", "var", "skew", "kurt",
    "mean_cos", "var_cos", "skew_cos", "kurt_cos", "top_tokens_up", "top_tokens_down", "top_class", "top_class_score",
    "top_class_p_adjusted", "top_class_log10_p_adjusted", "super_weight_rows",
)  # fmt: skip


@dataclass(frozen=True)
class NeuronCards:
    """Cards of some neurons, and the effects of each on all tokens, float64 (V,)."""

    cards: list[dict[str, Any]]
    effects: list[np.ndarray]

    @property
    def table(self) -> pd.DataFrame:
        """One flat row per card (see cards_table)."""
        return cards_table(self.cards)


def neuron_cards(
    readout: Readout,
    blocks: Iterable[NeuronBlock],
    selected: pd.DataFrame,
    tokens: pd.DataFrame,
    classes: Classes,
    *,
    k: int = 20,
) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Yield the card of each selected neuron, and its effects, float64 (V,).

    selected: of `select_neurons`; the effects of a neuron's own super weights are added to its card. tokens: of
    `token_classes`, in the order of the readout's rows. k: number of top tokens up and down. The p values of all cards
    are corrected by `correct_cards`.
    """
    listed = text_tokens(tokens)
    for block in blocks:
        expert = selected.expert.isna() if block.expert is None else (selected.expert == block.expert).fillna(False)
        neurons = selected[(selected.layer == block.layer) & expert & (selected.component == block.component)]
        for row in neurons.itertuples():
            vector = block.vectors[:, row.neuron]
            effects, cosines = direct_effects(readout, vector), cosine_effects(readout, vector)
            up, down = top_tokens(effects, listed, k)
            card = {
                "layer": block.layer,
                "expert": block.expert,
                "component": block.component,
                "tensor": block.tensor,
                "neuron": int(row.neuron),
                "selected_by": row.selected_by,
                "label": row.label,
                "norm": float(readout.seen(vector.double()).norm()),
                "moments": moments(effects),
                "moments_cos": moments(cosines),
                "top_tokens_up": token_list(up, effects, tokens),
                "top_tokens_down": token_list(down, effects, tokens),
                "enrichment": _enrichment(effects, classes, tokens),
                "super_weights": [_weight_card(readout, block, w, tokens, listed, k) for w in row.super_weights],
            }
            yield card, effects


def cards_of(
    checkpoint: Checkpoint,
    inventory: pd.DataFrame,
    vocabulary: pd.DataFrame,
    chosen: pd.DataFrame,
    *,
    tokens: int,
    device: str = "cpu",
) -> tuple[list[dict[str, Any]], list[np.ndarray]]:
    """The cards of a checkpoint's chosen neurons with corrected p values, and each one's effects on all tokens.

    vocabulary: of `token_classes`. chosen: of `select_neurons`. tokens: number of top tokens up and down. Only the
    tensors of these neurons are read.
    """
    readout = read_readout(checkpoint, inventory, device)
    kept = rows_with_tokens(vocabulary, readout.vocabulary)
    vocabulary = vocabulary.iloc[kept].reset_index(drop=True)
    ids = np.flatnonzero(text_tokens(vocabulary))
    classes = prepare_classes(*class_matrix(vocabulary), ids)
    blocks = neuron_blocks(checkpoint, inventory, readout, rows=projections_of(inventory, chosen))
    readout = readout.rows(torch.from_numpy(kept))
    made = list(neuron_cards(readout, blocks, chosen, vocabulary, classes, k=tokens))
    return correct_cards([card for card, _ in made]), [effects for _, effects in made]


def token_list(ids: np.ndarray, effects: np.ndarray, tokens: pd.DataFrame) -> list[dict[str, Any]]:
    """Tokens as records: id, tok (in the tokenizer's own notation), str (decoded), effect."""
    return [
        {
            "id": int(tokens.id.iat[i]),
            "tok": tokens.token.iat[i],
            "str": tokens.text.iat[i],
            "effect": float(effects[i]),
        }
        for i in ids
    ]


def _weight_card(readout, block, weight, tokens, listed, k) -> dict[str, Any]:
    value = float(block.vectors[weight["row"], weight["column"]])
    effects = scalar_effects(readout, weight["row"], value)
    up, down = top_tokens(effects, listed, k)
    return {
        "row": weight["row"],
        "weight": value,
        "moments": moments(effects),
        "top_tokens_up": token_list(up, effects, tokens),
        "top_tokens_down": token_list(down, effects, tokens),
    }


def _enrichment(effects: np.ndarray, classes: Classes, tokens: pd.DataFrame) -> list[dict[str, Any]]:
    table = enrichment(effects, classes).sort_values("score", ascending=False, kind="stable")
    records = table.to_dict("records")
    for record in records:
        ids = examples(effects, classes, record["class"], record["mean_difference"] > 0)
        record["examples"] = [tokens.text.iat[i] for i in ids]
    return records


def correct_cards(cards: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add p_adjusted and log10_p_adjusted (Benjamini-Hochberg over all classes of all cards) to every enrichment.

    The logarithms also order values that underflow to zero. Returns the cards.
    """
    records = [record for card in cards for record in card["enrichment"]]
    corrected = false_discovery_rates(np.log(10) * np.array([record["log10_p"] for record in records]))
    for record, value in zip(records, corrected, strict=True):
        record |= {"p_adjusted": float(np.exp(value)), "log10_p_adjusted": float(value / np.log(10))}
    return cards


def card_name(card: dict[str, Any]) -> str:
    """A card's name for files: layer, expert and component where there are any, neuron."""
    expert = "" if card["expert"] is None else f"-expert{card['expert']}"
    component = f"-{card['component']}" if card["component"] else ""
    return f"{card['layer']}{expert}{component}-{card['neuron']}-effects"


def card_title(card: dict[str, Any]) -> tuple[str, str]:
    """Two lines above a card's figure: the neuron with its label, and the classes that it is enriched for."""
    expert = "" if card["expert"] is None else f" expert {card['expert']}"
    shape, classes = card["moments"], [r for r in card["enrichment"] if r["p_adjusted"] < SIGNIFICANCE]
    named = [f"{r['class']} {'+' if r['mean_difference'] > 0 else '−'} (η² {r['score']:.2f})" for r in classes[:3]]
    place = f"{card['model']}, layer {card['layer']}{expert} {card['component']}".rstrip()
    return (
        f"{place}, neuron {card['neuron']}: {card['label']}",
        f"skew {shape['skew']:.2g}, kurtosis {shape['kurt']:.3g}; {', '.join(named) or 'no class enriched'}",
    )


def cards_frame(cards: list[dict[str, Any]]) -> pd.DataFrame:
    """Cards as a frame to write as lines of JSON; experts are nullable integers."""
    frame = pd.DataFrame(cards)
    return frame.astype({"expert": "Int64"}) if "expert" in frame else frame


def cards_table(cards: list[dict[str, Any]]) -> pd.DataFrame:
    """One flat row per card; top_class: the class with the highest score among those with p_adjusted < SIGNIFICANCE.

    top_tokens_up and top_tokens_down are lists of strings, in CSV as JSON, since tokens can contain any separator.
    """
    rows = []
    for card in cards:
        passed = [record for record in card["enrichment"] if record["p_adjusted"] < SIGNIFICANCE]
        top: dict[str, Any] = max(passed, key=lambda record: record["score"], default={})
        rows.append(
            {
                **{name: card[name] for name in CSV_COLUMNS[1:8]},
                "model": card.get("model", ""),
                **card["moments"],
                **{f"{name}_cos": value for name, value in card["moments_cos"].items()},
                "top_tokens_up": [token["str"] for token in card["top_tokens_up"]],
                "top_tokens_down": [token["str"] for token in card["top_tokens_down"]],
                "top_class": top.get("class", ""),
                "top_class_score": top.get("score"),
                "top_class_p_adjusted": top.get("p_adjusted"),
                "top_class_log10_p_adjusted": top.get("log10_p_adjusted"),
                "super_weight_rows": " ".join(str(weight["row"]) for weight in card["super_weights"]),
            }
        )
    return pd.DataFrame(rows, columns=list(CSV_COLUMNS)).astype({"expert": "Int64"})
