"""How the models are related: who comes from whom, who is unrelated, which are merges of others."""

from pathlib import Path

from weight_atlas.artifacts import write_json, write_table
from weight_atlas.comparison.kinship import KIN
from weight_atlas.comparison.lineage import lineage, told_table
from weight_atlas.comparison.profiles import read_model_profile
from weight_atlas.figures.lineage import lineage_map
from weight_atlas.figures.style import save_figure
from weight_atlas.workflow.step import run_step


def main(
    sketches: list[Path],
    profiles: list[Path],
    singular_values: list[Path],
    *,
    told: Path,
    table: Path,
    merges: Path,
    summary: Path,
    figure: Path,
    models: list[str],
) -> None:
    """Write the relations of the models, in the order of their names."""
    files = zip(models, sketches, profiles, singular_values, strict=True)
    found = lineage([read_model_profile(*each) for each in files])
    write_table(told, told_table(found.told))
    write_table(table, found.pairs)
    write_table(merges, found.merges)
    tree = {"order": [found.names[leaf] for leaf in found.order], "linkage": found.tree}
    write_json(summary, {"schema": 1, "families": found.families, "tree": tree, "findings": found.told})
    save_figure(figure, lineage_map(found.names, found.distances, found.tree, KIN))
    for each in found.told:
        print(each["text"], flush=True)


if __name__ == "__main__":
    run_step(main, globals())
