"""What single heads do with tokens: copying, matching, attending backwards, induction; a card for every head."""

from pathlib import Path

from weight_atlas.artifacts import read_frames, read_table, write_table
from weight_atlas.figures.head_circuits import circuit_maps
from weight_atlas.figures.style import save_figure
from weight_atlas.not_applicable import if_applicable
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    token_classes: Path,
    head_composition: Path,
    attention_head: Path,
    singular_directions: Path,
    *,
    cards: Path,
    table: Path,
    figure: Path,
) -> None:
    """Write the scores of all heads, a card of each as a line of JSON, and the figure."""
    from weight_atlas.checkpoint.manifest import open_checkpoint
    from weight_atlas.circuits.head_cards import head_cards, leading_pairs
    from weight_atlas.circuits.of_checkpoint import circuits_of

    pairs = if_applicable(head_composition, lambda path: leading_pairs(read_frames(path)))
    kernels, directions = map(if_applicable, (attention_head, singular_directions))
    classes = read_table(token_classes)
    found = circuits_of(open_checkpoint(checkpoint), read_table(inventory), classes, pairs)
    write_table(table, found)
    write_table(cards, head_cards(found, pairs, kernels, directions))
    save_figure(figure, circuit_maps(found))
    print(found["label"].replace("", "no label").value_counts().to_string(), flush=True)


if __name__ == "__main__":
    run_step(main, globals())
