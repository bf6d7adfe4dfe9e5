"""Two models compared: every tensor, what changed most, what stands alone, the files beside the weights."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.comparison.read import read_sides
from weight_atlas.comparison.summary import tables_of
from weight_atlas.figures.comparison import change_directions, change_map, most_changed_tensors
from weight_atlas.figures.style import save_figure
from weight_atlas.settings.comparison import Compared
from weight_atlas.settings.spectra import Tails
from weight_atlas.workflow.step import run_step


def main(
    parts: list[Path],
    heads_parts: list[Path],
    tokens_parts: list[Path],
    checkpoint: Path,
    inventory: Path,
    checkpoint_b: Path,
    inventory_b: Path,
    *,
    tensors: Path,
    table: Path,
    roles: Path,
    changes: Path,
    heads: Path,
    tokens: Path,
    alone: Path,
    files: Path,
    summary: Path,
    figure: Path,
    changed: Path,
    directions: Path,
    models: list[str],
    own_code: list[bool],
    settings: Compared,
    tails: Tails,
) -> None:
    """Put the parts together and write what follows; models: the names of a and b; the rest as of comparison_part."""
    sides = read_sides((checkpoint, inventory), (checkpoint_b, inventory_b), own_code)
    read = [[read_table(path) for path in paths] for paths in (parts, heads_parts, tokens_parts)]
    made = tables_of(sides, models, read, settings, tails)
    written = (tensors, table, roles, changes, heads, tokens, alone, files)
    for path, name in zip(
        written, ("tensors", "table", "roles", "changes", "heads", "tokens", "alone", "files"), strict=True
    ):
        write_table(path, getattr(made, name))
    write_json(summary, made.summary)
    title = f"{models[0]} (a) and {models[1]} (b)"
    save_figure(figure, change_map(made.roles, title))
    save_figure(changed, most_changed_tensors(made.changes, title))
    save_figure(directions, change_directions(made.table, settings.ranks, title))
    print(made.summary["findings"][0]["text"], flush=True)


if __name__ == "__main__":
    run_step(main, globals())
