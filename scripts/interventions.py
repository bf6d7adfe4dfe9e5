"""What removing single weights does to a model's predictions, window by window, beside controls."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_table
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    targets: Path,
    windows: Path,
    token_classes: Path,
    *,
    table: Path,
    changes: Path,
    draws: int = 50,
    shift_draws: int = 50,
    control_tokens: int | None = 2048,
    margin_k: int = 2,
    seed: int = 0,
    batch_size: int = 16,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device: str = "cpu",
) -> None:
    """Write the sums of all metrics for every intervention and window, and the mean change of each token.

    control_tokens: tokens that the random draws are scored on.
    """
    from weight_atlas.live.opening import open_live
    from weight_atlas.vocabulary.interventions import measure_interventions
    from weight_atlas.vocabulary.prediction_measures import prediction_measure, stop_words
    from weight_atlas.vocabulary.targets import coordinates_of
    from weight_atlas.vocabulary.windows import windows_for, windows_from

    live, _ = open_live(checkpoint, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    cut, wanted = windows_from(read_table(windows)), read_json(targets)
    measured = measure_interventions(
        live,
        cut,
        coordinates_of(wanted["targets"]),
        prediction_measure(stop_words(live.model, read_table(token_classes)), margin_k),
        factor=wanted["factor"],
        draws=draws,
        shift_draws=shift_draws,
        control_windows=windows_for(cut, control_tokens),
        seed=seed,
        batch_size=batch_size,
    )
    write_table(table, measured.windows)
    write_table(changes, measured.changes)


if __name__ == "__main__":
    run_step(main, globals())
