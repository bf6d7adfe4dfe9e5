"""Every expert of a mixture of experts: how often it is asked, its largest activations, the weights that carry them."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.figures import expert_routing as figures
from weight_atlas.figures.style import save_figure
from weight_atlas.live.load import open_live
from weight_atlas.live.windows import drawn_windows
from weight_atlas.settings.models import Live
from weight_atlas.settings.super_weights import ExpertRouting
from weight_atlas.super_weights.causal import with_causal_scores
from weight_atlas.super_weights.expert_table import check_experts, expert_findings, expert_table
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    text: Path,
    *,
    found: Path,
    table: Path,
    figure: Path,
    settings: ExpertRouting,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write the expert table of one model, its figure and findings."""
    check_experts(read_table(tensor_inventory))
    live, tokenizer = open_live(checkpoint, running, device=device)
    length = min(settings.window, live.context or settings.window)
    tokens = settings.router_analysis_samples * length
    windows = drawn_windows(
        read_table(text), tokenizer, window=length, tokens=tokens, limit=live.context, where=settings.corpus,
        seed=settings.seed,
    )  # fmt: skip
    experts = expert_table(live, windows, settings)
    if settings.enable_causal_scoring:
        experts = with_causal_scores(live, windows, experts, batch_size=settings.batch_size)
    write_table(table, experts)
    write_json(found, {"schema": 1, "experts": len(experts), "findings": expert_findings(experts)})
    save_figure(
        figure,
        figures.expert_routing(
            experts, residual_ratio=settings.residual_ratio, co_spike_threshold=settings.co_spike_threshold
        ),
    )


if __name__ == "__main__":
    run_step(main, globals())
