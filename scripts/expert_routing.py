"""Every expert of a mixture of experts: how often it is asked, its largest activations, the weights that carry them."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.figures import expert_routing as figures
from weight_atlas.figures.style import save_figure
from weight_atlas.live.opening import open_live
from weight_atlas.live.windows import corpus_windows
from weight_atlas.super_weights.causal import with_causal_scores
from weight_atlas.super_weights.expert_table import check_experts, expert_table
from weight_atlas.super_weights.findings import expert_findings
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    text: Path,
    *,
    found: Path,
    table: Path,
    figure: Path,
    corpus: str | None = None,
    router_analysis_samples: int = 10,
    window: int = 256,
    p_active_floor: float = 0.01,
    co_spike_threshold: float = 0.12,
    min_tokens: int = 4,
    residual_ratio: float = 50.0,
    enable_causal_scoring: bool = False,
    batch_size: int = 8,
    dtype: str = "auto",
    trust_remote_code: bool = False,
    device: str = "cpu",
) -> None:
    """Write the expert table of one model, its figure and findings.

    router_analysis_samples: windows of text that the routing is looked at in.
    """
    check_experts(read_table(tensor_inventory))
    live, tokenizer = open_live(checkpoint, device=device, dtype=dtype, trust_remote_code=trust_remote_code)
    length = min(window, live.context or window)
    options = {"window": length, "tokens": router_analysis_samples * length, "limit": live.context, "where": corpus}
    windows = corpus_windows(read_table(text), tokenizer, **options)
    floors = {"p_active_floor": p_active_floor, "co_spike_threshold": co_spike_threshold, "min_tokens": min_tokens}
    experts = expert_table(live, windows, residual_ratio=residual_ratio, **floors)
    if enable_causal_scoring:
        experts = with_causal_scores(live, windows, experts, batch_size=batch_size)
    write_table(table, experts)
    write_json(found, {"schema": 1, "experts": len(experts), "findings": expert_findings(experts)})
    marks = {"residual_ratio": residual_ratio, "co_spike_threshold": co_spike_threshold}
    save_figure(figure, figures.expert_routing(experts, **marks))


if __name__ == "__main__":
    run_step(main, globals())
