"""How much attention heads read of what heads of earlier layers write: Q-, K- and V-composition."""

from pathlib import Path

import pandas as pd

from weight_atlas.artifacts import read_table, write_frames, write_table
from weight_atlas.figures.head_composition import SHOWN, composition_maps
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.circuits import HeadComposition
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    *,
    pairs: Path,
    table: Path,
    layers: Path,
    figure: Path,
    settings: HeadComposition,
    threads: int = 1,
) -> None:
    """Write the scores of all pairs of heads, the strongest of them, their summary by layers, and the figure."""
    from weight_atlas.checkpoint.manifest import open_checkpoint
    from weight_atlas.circuits.of_checkpoint import scores_of

    scores = scores_of(open_checkpoint(checkpoint), read_table(inventory), threads=threads)
    write_frames(pairs, scores.frames())
    write_table(table, scores.largest(settings.strongest))
    summary = scores.by_layers()
    write_table(layers, summary)
    strongest = [scores.largest(SHOWN, stack) for stack in scores.stacks]
    save_figure(figure, composition_maps(summary, pd.concat(strongest, ignore_index=True)))


if __name__ == "__main__":
    run_step(main, globals())
