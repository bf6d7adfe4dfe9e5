"""What kind of effect each neuron has on the vocabulary, and cards of named ones, super weights' and extremes."""

from pathlib import Path

import pandas as pd

from weight_atlas.artifacts import read_json, read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.vocabulary import neuron_card, neuron_map, neurons_overview
from weight_atlas.not_applicable import if_applicable
from weight_atlas.settings.vocabulary import NeuronEffects, NeuronLabels
from weight_atlas.vocabulary.labels import count_labels, threshold_value, with_labels
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    token_classes: Path,
    neuron_scan: Path,
    super_weights: list[Path] | None = None,
    *,
    labels: Path,
    counts: Path,
    map_of_all: Path,
    cards: Path,
    table: Path,
    figure: Path,
    figures: Path,
    model: str = "model",
    thresholds: NeuronLabels,
    chosen: NeuronEffects,
    device: str = "cpu",
) -> None:
    """Write the scan with labels, their numbers by layer and map, and cards of single neurons with a figure of each."""
    from weight_atlas.vocabulary.neuron_cards import card_name, card_title, cards_frame, cards_of, cards_table
    from weight_atlas.vocabulary.selection import select_neurons

    inventory, classes = read_table(tensor_inventory), read_table(token_classes)
    write_table(labels, neurons := with_labels(read_table(neuron_scan), inventory, thresholds))
    write_table(counts, count_labels(neurons))
    kurtosis = threshold_value("kurtosis", thresholds.kurtosis, neurons)
    save_figure(map_of_all, neuron_map(neurons, kurtosis, f"Neurons of {model}"))
    detected = [if_applicable(path, read_json) for path in super_weights or []]
    found = [record for artifact in detected if artifact for record in artifact["super_weights"]]
    few = select_neurons(neurons, found, chosen.neurons.get(model, []), top_k=chosen.top_k, order=chosen.top_by)
    made, effects = cards_of(open_checkpoint(checkpoint), inventory, classes, few, tokens=chosen.tokens, device=device)
    made = [{"model": model, **card} for card in made]
    write_table(cards, cards_frame(made))
    write_table(table, cards_table(made))
    figures.mkdir(parents=True, exist_ok=True)
    for card, of_card in zip(made, effects, strict=True):
        up, down = pd.DataFrame(card["top_tokens_up"]), pd.DataFrame(card["top_tokens_down"])
        save_figure(figures / f"{card_name(card)}.png", neuron_card(up, down, of_card, *card_title(card)))
    save_figure(figure, neurons_overview(cards_table(made), model))


if __name__ == "__main__":
    run_step(main, globals())
