"""How the removal of single weights travels through the layers above them, read through the logit lens."""

from pathlib import Path

from weight_atlas.artifacts import read_json, read_table, write_table
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.vocabulary_cascade import cascade_by_layer, cascade_of_tokens, cascades
from weight_atlas.settings.models import Live
from weight_atlas.settings.vocabulary import Cascade
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    targets: Path,
    windows: Path,
    *,
    table: Path,
    tokens_table: Path,
    figure: Path,
    figures: Path,
    settings: Cascade,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write averages by layer and class of positions, single tokens of one text, and figures of each target."""
    from weight_atlas.live.load import open_live
    from weight_atlas.vocabulary.cascade import cascade, cascade_of_text
    from weight_atlas.vocabulary.target_coordinates import coordinates_of
    from weight_atlas.vocabulary.targets import edit_title, target_name, target_title
    from weight_atlas.vocabulary.windows import text_ids, windows_for, windows_from

    live, tokenizer = open_live(checkpoint, running, device=device)
    wanted, cut = read_json(targets), windows_from(read_table(windows))
    records, how = wanted["targets"], {"factor": wanted["factor"], "k": settings.margin_k}
    places = coordinates_of(records)
    averages = cascade(live, cut.first(windows_for(cut, settings.tokens)), places, **how)
    single = cascade_of_text(live, text_ids(tokenizer, cut, settings.text, settings.text_tokens), places, **how)
    single["token"] = [tokenizer.decode([token]) for token in single["id"]]
    write_table(table, averages)
    write_table(tokens_table, single)
    save_figure(figure, cascades(averages, [target_title(record) for record in records], wanted["model"]))
    figures.mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(records):
        own, map_ = averages[averages.target == number], single[single.target == number]
        title = edit_title(record, wanted["factor"], wanted["model"])
        save_figure(figures / f"{target_name(record)}-cascade.png", cascade_by_layer(own, title))
        save_figure(figures / f"{target_name(record)}-tokens.png", cascade_of_tokens(map_, title))


if __name__ == "__main__":
    run_step(main, globals())
