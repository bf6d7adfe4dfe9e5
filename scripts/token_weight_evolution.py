"""Token weights over the checkpoints of a training run: their spread, the tokens that moved, and the trend."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.token_weights import evolution_panels
from weight_atlas.settings.token_weights import Evolution
from weight_atlas.token_weights.checkpoints import followed
from weight_atlas.workflow.step import run_step


def main(tokens: Path, *, table: Path, moved_tokens: Path, summary: Path, figure: Path, settings: Evolution) -> None:
    """Write the course of the weights, of those that moved most, and its reading. tokens: the weights of all tokens."""
    found = followed(read_table(tokens), settings)
    write_table(table, found.course)
    write_table(moved_tokens, found.moved)
    write_json(summary, found.summary)
    save_figure(figure, evolution_panels(found.course, found.moved, "token weight"))
    print(found.summary["reading"], flush=True)


if __name__ == "__main__":
    run_step(main, globals())
