"""Items of a bundled task, made from a corpus."""

from pathlib import Path

from weight_atlas.ablations.bundled import bundled_items
from weight_atlas.artifacts import read_table, write_table
from weight_atlas.settings.tasks import BundledItems
from weight_atlas.workflow.step import run_step


def main(text: Path, *, table: Path, bundled: str, settings: BundledItems) -> None:
    """Write the items of one bundled task, as many as the settings allow.

    text: the corpus. bundled: order, documents or phrase.
    """
    made = bundled_items(read_table(text), items=settings.items, seed=settings.seed, tasks=[bundled])[bundled]
    write_table(table, made)
    print(f"{bundled}: {len(made)} items", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
