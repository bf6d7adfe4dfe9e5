"""Learned positions, and token embeddings as clouds of vectors: norms, neighbours, isotropy."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.embeddings import geometry
from weight_atlas.embeddings.positions import gram, periodogram
from weight_atlas.embeddings.token_texts import with_texts
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.pieces import load_piece, matrices
from weight_atlas.figures.embedding_positions import position_panels
from weight_atlas.figures.embedding_tokens import embedding_panels
from weight_atlas.figures.style import save_figure
from weight_atlas.not_applicable import left_without
from weight_atlas.settings.embeddings import EmbeddingGeometry
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    *,
    table: Path,
    position_table: Path,
    dimension_table: Path,
    token_norms: Path,
    nearest_tokens: Path,
    positions_figure: Path,
    figure: Path,
    settings: EmbeddingGeometry,
) -> None:
    """Write the measures of one model's embeddings, of its positions and tokens, and their figures."""
    opened, rows = open_checkpoint(checkpoint), matrices(read_table(inventory))
    found = geometry.embeddings_of(rows, lambda row: load_piece(opened, row), settings)
    measures = geometry.embedding_table(found)
    write_table(table, measures)
    encoding = Architecture.of(opened, allow_other=True).quantities.fact("positions")
    with left_without([position_table, dimension_table, positions_figure]):
        learned = found.required_positions(str(encoding or ""))
        write_table(position_table, learned.table)
        write_table(dimension_table, learned.dimensions)
        save_figure(positions_figure, position_panels(learned, gram(learned.values), periodogram(learned.values)))
    with left_without([token_norms, nearest_tokens, figure]):
        clouds = found.required_clouds()
        near = geometry.neighbour_table(clouds, settings)
        write_table(token_norms, geometry.token_table(clouds))
        write_table(nearest_tokens, with_texts(near, opened.folder))
        save_figure(figure, embedding_panels(clouds, measures, near))


if __name__ == "__main__":
    run_step(main, globals())
