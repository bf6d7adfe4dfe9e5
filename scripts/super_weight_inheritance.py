"""Super weights of two models: whether one has those of the other, their values, and what removal costs in both."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_json, write_table
from weight_atlas.errors import NotApplicable
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.super_weight_inheritance import inheritance
from weight_atlas.live.load import open_live
from weight_atlas.settings.models import Live
from weight_atlas.settings.super_weights import SuperWeightVerification
from weight_atlas.super_weights.inheritance import inheritance_table, side_of, summary_of, super_places
from weight_atlas.workflow.step import run_step


def main(
    checkpoints: list[Path],
    verdicts: list[Path],
    text: Path,
    *,
    table: Path,
    summary: Path,
    figure: Path,
    models: list[str],
    dtypes: list[str],
    own_code: list[bool],
    settings: SuperWeightVerification,
    device: str = "cpu",
) -> None:
    """Write the table of two models' super weights, what it says, and its figure. Everything is of a, then of b.

    checkpoints, verdicts: of the verification. dtypes: to run each in; own_code: whether code that it brings may run.
    """
    found = [read_json(path) for path in verdicts]
    of_a, of_b = (super_places(each) for each in found)
    if not of_a and not of_b:
        raise NotApplicable("neither model has super weights")
    corpus, sides = read_table(text), []
    for checkpoint, dtype, code in zip(checkpoints, dtypes, own_code, strict=True):
        # One model is in memory at a time.
        running = Live.model_validate({"dtype": dtype, "trust_remote_code": code})
        live, tokenizer = open_live(checkpoint, running, device=device)
        sides.append(side_of(live, tokenizer, corpus, of_a, of_b, settings))
    rows = inheritance_table(*found, *sides)
    write_table(table, rows)
    write_json(summary, summary_of(rows, models))
    save_figure(figure, inheritance(rows, models))


if __name__ == "__main__":
    run_step(main, globals())
