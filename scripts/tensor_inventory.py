"""Every tensor of a checkpoint with its role, layer, expert, heads, shape and stored type."""

from pathlib import Path

from weight_atlas.artifacts import write_table
from weight_atlas.checkpoint.streamed import open_remote
from weight_atlas.families.inventory import inventory
from weight_atlas.settings.models import Inventoried
from weight_atlas.workflow.step import run_step


def main(checkpoint: Path, *, table: Path, settings: Inventoried) -> None:
    """Write the tensor inventory of one model, from file headers and config.json alone."""
    opened = open_remote(checkpoint)
    tensors = inventory(opened, allow_other=settings.allow_other)
    write_table(table, tensors)
    if opened.renamed:
        print(opened.renamed, flush=True)
    own = tensors[tensors["tied_to"] == ""]
    print(f"{len(tensors)} logical tensors, {own['parameters'].sum():,} parameters, {own['bytes'].sum():,} bytes")


if __name__ == "__main__":
    run_step(main, globals())
