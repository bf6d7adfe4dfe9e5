"""Items of a bundled task, made from a corpus."""

from pathlib import Path

from weight_atlas.ablations.bundled import bundled_items
from weight_atlas.artifacts import read_table, write_table
from weight_atlas.workflow.step import run_step


def main(text: Path, *, table: Path, bundled: str, items: int = 60, seed: int = 0) -> None:
    """Write the items of one bundled task, at most `items`.

    text: the corpus. bundled: order, documents or phrase.
    """
    made = bundled_items(read_table(text), items=items, seed=seed, tasks=[bundled])[bundled]
    write_table(table, made)
    print(f"{bundled}: {len(made)} items", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
