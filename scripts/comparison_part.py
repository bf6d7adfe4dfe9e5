"""The tensors of two models that one part of the work compares."""

from pathlib import Path

from weight_atlas.artifacts import write_table
from weight_atlas.comparison.read import read_sides
from weight_atlas.settings.comparison import ComparisonPart
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    checkpoint_b: Path,
    inventory_b: Path,
    *,
    part: Path,
    heads: Path,
    tokens: Path,
    scatteritem: str,
    own_code: list[bool],
    settings: ComparisonPart,
    threads: int = 1,
    memory_mb: int = 200,
) -> None:
    """Compare part K of N of the tensors of model a, whose manifest and inventory come first, and of model b.

    scatteritem: "K-of-N". own_code: of each model, whether code that comes with it may run. memory_mb: what the
    matrices compared at once may take beyond the largest of them in float64 and its Gram matrix.
    """
    from weight_atlas.comparison.measure import measured, share_of

    number, count = map(int, scatteritem.split("-of-"))
    sides = read_sides((checkpoint, inventory), (checkpoint_b, inventory_b), own_code)
    share = share_of(sides.pairs, number, count)
    print(f"part {scatteritem}: {len(share)} of {len(sides.pairs)} pairs of tensors", flush=True)
    tables = measured(share, sides, settings, threads=threads, memory_bytes=memory_mb * 1_000_000)
    for path, table in zip((part, heads, tokens), tables, strict=True):
        write_table(path, table)


if __name__ == "__main__":
    run_step(main, globals())
