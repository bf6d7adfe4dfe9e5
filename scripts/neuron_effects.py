"""What single neurons do to the vocabulary: those of super weights, those asked for, and the extremes of each layer."""

from pathlib import Path

import pandas as pd

from weight_atlas.artifacts import read_json, read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.vocabulary import neuron_card, neurons_overview
from weight_atlas.not_applicable import if_applicable
from weight_atlas.settings.vocabulary import NeuronEffects
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    token_classes: Path,
    neuron_labels: Path,
    super_weights: list[Path] | None = None,
    *,
    cards: Path,
    table: Path,
    figure: Path,
    figures: Path,
    model: str = "model",
    settings: NeuronEffects,
    device: str = "cpu",
) -> None:
    """Write the cards of one model's neurons, as lines of JSON and flat, and a figure of each."""
    from weight_atlas.vocabulary.neuron_cards import card_name, card_title, cards_frame, cards_of, cards_table
    from weight_atlas.vocabulary.selection import select_neurons

    inventory, vocabulary, scan = (read_table(path) for path in (tensor_inventory, token_classes, neuron_labels))
    detected = [if_applicable(path, read_json) for path in super_weights or []]
    found = [record for artifact in detected if artifact for record in artifact["super_weights"]]
    chosen = select_neurons(scan, found, settings.neurons.get(model, []), top_k=settings.top_k, order=settings.top_by)
    opened = open_checkpoint(checkpoint)
    made, effects = cards_of(opened, inventory, vocabulary, chosen, tokens=settings.tokens, device=device)
    made = [{"model": model, **card} for card in made]
    flat = cards_table(made)
    write_table(cards, cards_frame(made))
    write_table(table, flat)
    figures.mkdir(parents=True, exist_ok=True)
    for card, of_card in zip(made, effects, strict=True):
        up, down = pd.DataFrame(card["top_tokens_up"]), pd.DataFrame(card["top_tokens_down"])
        save_figure(figures / f"{card_name(card)}.png", neuron_card(up, down, of_card, *card_title(card)))
    save_figure(figure, neurons_overview(flat, model))


if __name__ == "__main__":
    run_step(main, globals())
