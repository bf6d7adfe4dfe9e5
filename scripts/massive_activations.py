"""Massive activations from where they arise to where they are removed, and the attention that they draw."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_json, write_table
from weight_atlas.figures import massive_activations as figures
from weight_atlas.figures.style import save_figure
from weight_atlas.live.load import open_live
from weight_atlas.not_applicable import write_not_applicable
from weight_atlas.settings.models import Live
from weight_atlas.settings.super_weights import MassiveActivations
from weight_atlas.super_weights.massive_report import massive_report
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    super_weights: Path,
    text: Path,
    *,
    found: Path,
    sites: Path,
    weights: Path,
    heads: Path,
    definitions: Path,
    figure: Path,
    settings: MassiveActivations,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write the sites of one model's massive activations, the weights behind them, sinks, definitions and a figure."""
    live, tokenizer = open_live(checkpoint, running, device=device, attention="eager")
    report = massive_report(live, tokenizer, read_table(text), read_json(super_weights), settings)
    write_json(found, report.artifact)
    write_table(sites, report.sites)
    write_table(weights, report.weights)
    write_table(definitions, report.definitions)
    if report.heads is None:
        write_not_applicable(heads, report.without_heads)
    else:
        write_table(heads, report.heads)
    save_figure(figure, figures.massive_activations(report.sites, report.heads, report.without_heads))


if __name__ == "__main__":
    run_step(main, globals())
