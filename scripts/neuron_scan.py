"""Effects of all neurons of a model on its vocabulary: moments and strongest tokens."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.settings.vocabulary import NeuronScan
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    tensor_inventory: Path,
    token_classes: Path,
    *,
    table: Path,
    settings: NeuronScan,
    device: str = "cpu",
) -> None:
    """Write one row per neuron of every MLP and expert."""
    from weight_atlas.vocabulary.neuron_scan import scan_neurons

    opened, inventory, classes = open_checkpoint(checkpoint), read_table(tensor_inventory), read_table(token_classes)
    write_table(table, scan_neurons(opened, inventory, classes, tokens=settings.tokens, device=device))


if __name__ == "__main__":
    run_step(main, globals())
