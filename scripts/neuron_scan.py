"""Effects of all neurons of a model on its vocabulary: moments and strongest tokens."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.checkpoint import open_checkpoint
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path, tensor_inventory: Path, token_classes: Path, *, table: Path, tokens: int = 10, device: str = "cpu"
) -> None:
    """Write one row per neuron of every MLP and expert. tokens: how many to keep up and down."""
    import torch

    from weight_atlas.vocabulary.neuron_scan import prepare, scan
    from weight_atlas.vocabulary.neurons import neuron_blocks
    from weight_atlas.vocabulary.readout import read_readout
    from weight_atlas.vocabulary.token_classes import listed_tokens, rows_with_tokens

    opened, inventory, classes = open_checkpoint(checkpoint), read_table(tensor_inventory), read_table(token_classes)
    readout = read_readout(opened, inventory, device)
    kept = rows_with_tokens(classes, readout.vocabulary)
    vocabulary = prepare(readout.rows(torch.from_numpy(kept)), listed_tokens(classes)[kept])
    neurons = scan(vocabulary, neuron_blocks(opened, inventory, readout), k=tokens)
    for column in ("top_ids", "bottom_ids"):
        neurons[column] = [kept[ids] for ids in neurons[column]]
    write_table(table, neurons)
    print(f"{len(neurons)} neurons on {len(kept)} tokens", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
