"""What each super weight does: changes of predictions beside controls with intervals, tokens that move, cascade."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.vocabulary_interventions import deltas_of, tokens_moved, weights_overview
from weight_atlas.settings.vocabulary import SuperWeightCards
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    targets: Path,
    interventions: Path,
    changes: Path,
    cascade: Path,
    token_classes: Path,
    *,
    cards: Path,
    table: Path,
    figure: Path,
    figures: Path,
    model: str = "model",
    settings: SuperWeightCards,
) -> None:
    """Write the cards of one model's targets, as lines of JSON and flat, and figures of each."""
    from weight_atlas.vocabulary.neuron_cards import cards_frame
    from weight_atlas.vocabulary.super_weight_cards import card_tables, weight_cards, weights_table
    from weight_atlas.vocabulary.targets import edit_title, target_name

    opened, inventory = open_checkpoint(checkpoint), read_table(tensor_inventory)
    windows, mean_changes, by_layer, tokens = map(read_table, (interventions, changes, cascade, token_classes))
    made, effects = weight_cards(
        opened, inventory, read_json(targets), windows, mean_changes, by_layer, tokens, settings
    )
    made = [{"model": model, **card} for card in made]
    write_table(cards, cards_frame(made))
    write_table(table, weights_table(made))
    save_figure(figure, weights_overview(weights_table(made), model))
    figures.mkdir(parents=True, exist_ok=True)
    for number, card in enumerate(made):
        title, own = edit_title(card, card["factor"], model), effects[effects.target == number]
        save_figure(figures / f"{target_name(card)}-deltas.png", deltas_of(card_tables(card), title))
        save_figure(figures / f"{target_name(card)}-words.png", tokens_moved(own, title))


if __name__ == "__main__":
    run_step(main, globals())
