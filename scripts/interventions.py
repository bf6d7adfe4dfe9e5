"""What removing single weights does to a model's predictions, window by window, beside controls."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_table
from weight_atlas.settings.models import Live
from weight_atlas.settings.vocabulary import Interventions
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    targets: Path,
    windows: Path,
    token_classes: Path,
    *,
    table: Path,
    changes: Path,
    settings: Interventions,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write the sums of all metrics for every intervention and window, and the mean change of each token."""
    from weight_atlas.live.load import open_live
    from weight_atlas.vocabulary.interventions import measure_interventions
    from weight_atlas.vocabulary.prediction_measures import prediction_measure, stop_words
    from weight_atlas.vocabulary.target_coordinates import coordinates_of
    from weight_atlas.vocabulary.windows import windows_for, windows_from

    live, _ = open_live(checkpoint, running, device=device)
    cut, wanted = windows_from(read_table(windows)), read_json(targets)
    measured = measure_interventions(
        live,
        cut,
        coordinates_of(wanted["targets"]),
        prediction_measure(stop_words(live.model, read_table(token_classes)), settings.margin_k),
        settings,
        factor=wanted["factor"],
        control_windows=windows_for(cut, settings.control_tokens),
    )
    write_table(table, measured.windows)
    write_table(changes, measured.changes)


if __name__ == "__main__":
    run_step(main, globals())
