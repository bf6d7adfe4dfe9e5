"""Super weights: the weights that write the massive activations of a model, and what the published procedure finds."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_json, write_table
from weight_atlas.figures import super_weights as figures
from weight_atlas.figures.style import save_figure
from weight_atlas.live.opening import open_live
from weight_atlas.super_weights.survey import survey
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    *,
    found: Path,
    table: Path,
    iterations: Path,
    steps: Path,
    contributions: Path,
    agreement: Path,
    figure: Path,
    iterations_figure: Path,
    residual_figure: Path,
    shares_figure: Path,
    model: str = "",
    method: str = "contribution",
    prompts: list[str] | None = None,
    spike_threshold: float | None = None,
    max_iterations: int = 10,
    min_rho: float = 0.5,
    residual_ratio: float = 50.0,
    persistence: float = 0.5,
    coverage: float = 0.8,
    min_share: float = 0.1,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device: str = "cpu",
) -> None:
    """Write the super weights of a model with the evidence for them, and their figures (settings: see survey)."""
    live, tokenizer = open_live(checkpoint, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    seen = survey(
        live, tokenizer, read_table(tensor_inventory), model=model, source=read_json(checkpoint)["source"],
        method=method, prompts=prompts, spike_threshold=spike_threshold, max_iterations=max_iterations,
        min_rho=min_rho, residual_ratio=residual_ratio, persistence=persistence, coverage=coverage, min_share=min_share,
    )  # fmt: skip
    write_json(found, seen.artifact)
    shown = seen.detection
    written = {table: seen.table, iterations: seen.iterations, steps: shown.steps, contributions: shown.contributions}
    for path, content in {**written, agreement: seen.agreement}.items():
        write_table(path, content)
    save_figure(figure, figures.spike_places(seen.iterations, seen.table))
    save_figure(iterations_figure, figures.detection_iterations(seen.iterations, seen.spike_threshold))
    save_figure(residual_figure, figures.residual_by_layer(seen.residual))
    save_figure(shares_figure, figures.contribution_shares(shown.contributions))


if __name__ == "__main__":
    run_step(main, globals())
