"""All models side by side: labels of neurons, enriched classes of tokens, effects of super weights."""

from pathlib import Path

from weight_atlas.artifacts import write_json, write_table
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.vocabulary_summary import models_overview
from weight_atlas.not_applicable import applicable
from weight_atlas.settings.vocabulary import VocabularySummary
from weight_atlas.vocabulary.summary import summarise_classes, summarise_models
from weight_atlas.workflow.step import run_step


def main(
    labels: list[Path] | None = None,
    neurons: list[Path] | None = None,
    weights: list[Path] | None = None,
    *,
    table: Path,
    classes: Path,
    summary: Path,
    figure: Path,
    settings: VocabularySummary,
) -> None:
    """Write the tables, one JSON file with both, and the figure. Models are named as the files or their folders."""
    read = applicable([*(labels or []), *(neurons or []), *(weights or [])])
    counts = {path.stem: read[path] for path in labels or [] if path in read}
    cards = {path.parent.name: read[path].to_dict("records") for path in neurons or [] if path in read}
    effects = {path.parent.name: read[path] for path in weights or [] if path in read}
    models, by_class = summarise_models(counts, cards, effects), summarise_classes(cards, settings.significance)
    write_table(table, models)
    write_table(classes, by_class)
    write_json(summary, {"models": models.to_dict("records"), "classes": by_class.to_dict("records")})
    save_figure(figure, models_overview(models, by_class))


if __name__ == "__main__":
    run_step(main, globals())
