"""Attention heads of a layer compared by their kernels: clusters, isolated heads, clusteredness by layer."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.embeddings import heads
from weight_atlas.embeddings.depth import depth_trends
from weight_atlas.families.pieces import load_piece, matrices
from weight_atlas.figures.head_similarity import clusteredness_by_layer, head_trees, head_weights
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.embeddings import HeadSimilarity
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    *,
    table: Path,
    by_layer: Path,
    trends: Path,
    pairs: Path,
    figure: Path,
    trees: Path,
    weights: Path,
    settings: HeadSimilarity,
) -> None:
    """Write how alike the heads of each layer are, their clusters, and figures of all and of chosen layers."""
    opened, rows = open_checkpoint(checkpoint), matrices(read_table(inventory))
    layers = heads.compared_layers(rows, lambda row: load_piece(opened, row))
    found = heads.head_table(layers, settings.least_cosine)
    summary = heads.layer_table(layers, found)
    write_table(table, found)
    write_table(by_layer, summary)
    write_table(trends, depth_trends(summary, ["stack", "component", "circuit"], ["clusteredness", "mean_distance"]))
    write_table(pairs, heads.pair_table(layers))
    save_figure(figure, clusteredness_by_layer(summary))
    save_figure(trees, head_trees(heads.chosen_layers(layers, settings.layers), settings.least_cosine))
    save_figure(weights, head_weights(heads.weights_of(rows, lambda row: load_piece(opened, row), settings)))


if __name__ == "__main__":
    run_step(main, globals())
