"""Super weights by the published procedure: spikes through MLP output projections, zeroed and looked for again."""

from pathlib import Path

import pandas as pd

from weight_atlas.checkpoint.checkpoint import open_checkpoint
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.super_weights import detection_iterations
from weight_atlas.step import run_step
from weight_atlas.super_weights.artifact import COLUMNS, artifact, published_records
from weight_atlas.super_weights.published import family_threshold, prompt_ids, spikes
from weight_atlas.tables import write_json, write_table


def main(
    checkpoint: Path,
    *,
    found: Path,
    table: Path,
    iterations: Path,
    figure: Path,
    model: str = "",
    spike_threshold: float | None = None,
    max_iterations: int = 10,
    min_rho: float = 0.5,
    prompts: list[str] | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device: str = "cpu",
) -> None:
    """Write the super weights of one model, the spikes of every round, and their figure.

    spike_threshold: none takes the model family's own, or 50.
    """
    from weight_atlas.lm.anatomy import anatomy
    from weight_atlas.lm.load import load_model, load_tokenizer

    opened = open_checkpoint(checkpoint)
    tokenizer = load_tokenizer(opened, trust_remote_code=trust_remote_code)
    live = anatomy(load_model(opened, device=device, dtype=dtype, trust_remote_code=trust_remote_code))
    threshold = family_threshold(live) if spike_threshold is None else spike_threshold
    ids, limits = prompt_ids(tokenizer, prompts), {"max_iterations": max_iterations, "min_rho": min_rho}
    seen = spikes(live, ids, threshold=threshold, **limits)
    records = published_records(seen)
    settings = {"spike_threshold": threshold, "prompts": prompts, **limits}
    write_json(found, artifact(model, records, settings))
    write_table(table, pd.DataFrame(records, columns=list(COLUMNS)))
    write_table(iterations, seen)
    save_figure(figure, detection_iterations(seen, threshold))
    print(f"{len(records)} super weights", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
