"""Statistics of the values of every tensor, by tensor, role and layer, and their cumulative distributions."""

from pathlib import Path

from weight_atlas.artifacts import write_table
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.tensor_views import tensor_panels
from weight_atlas.figures.weights import cdf_by_role, histograms_by_role, kurtosis_by_layer, statistics_by_layer
from weight_atlas.settings.weights import WeightStatistics
from weight_atlas.spectra.choice import choose_matrices
from weight_atlas.weights.cdf import weight_cdf
from weight_atlas.weights.density import role_densities
from weight_atlas.weights.depth_trends import depth_trends
from weight_atlas.weights.part_file import read_part_file
from weight_atlas.weights.statistics import weight_statistics
from weight_atlas.weights.stored_tensors import stored_statistics
from weight_atlas.weights.summaries import by_layer, by_role
from weight_atlas.weights.tensor_views import tensor_views
from weight_atlas.workflow.step import run_step


def main(
    histograms: Path,
    *,
    table: Path,
    of_roles: Path,
    of_layers: Path,
    stored: Path,
    trends: Path,
    densities: Path,
    figure: Path,
    kurtosis: Path,
    views: Path,
    cdf: Path,
    cdf_figure: Path,
    settings: WeightStatistics,
) -> None:
    """Write the statistics of one model's tensors, of its roles and layers, CDFs of its matrices, and all figures."""
    statistics = weight_statistics(read_part_file(histograms))
    write_table(table, statistics)
    write_table(of_roles, by_role(statistics))
    write_table(of_layers, layers := by_layer(statistics))
    write_table(stored, stored_statistics(read_part_file(histograms)))
    write_table(trends, depth_trends(statistics))
    save_figure(densities, histograms_by_role(role_densities(read_part_file(histograms), settings.roles)))
    save_figure(figure, statistics_by_layer(layers))
    save_figure(kurtosis, kurtosis_by_layer(layers))
    chosen = tensor_views(read_part_file(histograms), statistics, settings.tensors, choose_matrices)
    save_figure(views, tensor_panels(chosen))
    distributions = weight_cdf(read_part_file(histograms))
    write_table(cdf, distributions)
    save_figure(cdf_figure, cdf_by_role(distributions))
    flagged = statistics[statistics["flags"] != ""]
    for row in flagged.itertuples():
        print(f"warning: {row.id} has elements that are {row.flags.replace(' ', ' or ')}", flush=True)
    print(f"{len(statistics)} tensors, {len(flagged)} with NaN or infinite elements", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
