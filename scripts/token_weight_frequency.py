"""Token weights beside how often the tokens occur: correlations, outliers, recommendations, masks."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_array, write_json, write_table
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.token_weight_frequency import cdfs, six_panels
from weight_atlas.settings.token_weights import Counted
from weight_atlas.token_weights.beside_counts import beside_counts, occurrences
from weight_atlas.workflow.step import run_step


def main(
    tokens: Path,
    counted: Path | None = None,
    groups: Path | None = None,
    *,
    table: Path,
    seen: Path,
    bins: Path,
    outlier_tokens: Path,
    divergence: Path,
    recommendations: Path,
    languages: Path,
    pruning: Path,
    summary: Path,
    mask: Path,
    figure: Path,
    cumulative: Path,
    settings: Counted,
) -> None:
    """Write what weights and counts say about each other.

    tokens: the weights of all tokens. counted: a corpus's counts, groups: the same by group; without
    them the counts of the settings are read.
    """
    found = beside_counts(
        read_table(tokens),
        occurrences(counted, settings.counts),
        settings,
        read_table(groups) if groups else None,
    )
    write_table(table, found.correlations)
    write_table(seen, found.statistics)
    write_table(bins, found.bins)
    write_table(outlier_tokens, found.outliers)
    write_table(divergence, found.divergence)
    write_table(recommendations, found.recommendations)
    write_table(languages, found.languages)
    write_table(pruning, found.pruning)
    write_json(summary, found.summary)
    write_array(mask, found.mask)
    save_figure(figure, six_panels(found, settings.threshold))
    save_figure(cumulative, cdfs(found.cdf, found.tokens["count"].to_numpy(), found.label))
    print(found.summary["reading"], flush=True)


if __name__ == "__main__":
    run_step(main, globals())
