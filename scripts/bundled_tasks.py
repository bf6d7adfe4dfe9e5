"""Items of the three bundled tasks, made from a corpus."""

from pathlib import Path

from weight_atlas.evaluation.bundled import bundled_items
from weight_atlas.step import run_step
from weight_atlas.tables import read_table, write_table


def main(text: Path, *, order: Path, documents: Path, phrase: Path, items: int = 60, seed: int = 0) -> None:
    """Write the items of the tasks `order`, `documents` and `phrase`, at most `items` of each.

    text: the corpus.
    """
    tasks = bundled_items(read_table(text), items=items, seed=seed)
    for name, path in (("order", order), ("documents", documents), ("phrase", phrase)):
        write_table(path, tasks[name])
        print(f"{name}: {len(tasks[name])} items", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
