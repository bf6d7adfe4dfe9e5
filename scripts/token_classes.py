"""Which tokens of a model's vocabulary are digits, pronouns, punctuation: one boolean matrix."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.settings.models import OwnCode
from weight_atlas.tokens.model_vocabulary import read_vocabulary
from weight_atlas.vocabulary.token_classes import CLASSES, read_token_classes
from weight_atlas.workflow.step import run_step


def main(checkpoint: Path, tensor_inventory: Path, *, table: Path, own: OwnCode) -> None:
    """Write one row per token id: token, text, special, and a boolean column for each class."""
    opened = open_checkpoint(checkpoint)
    vocabulary = read_vocabulary(
        opened.folder, opened.config, read_table(tensor_inventory), trust_remote_code=own.trust_remote_code
    )
    tokens = read_token_classes(vocabulary.tokenizer, vocabulary.texts)
    write_table(table, tokens)
    print(tokens[list(CLASSES)].sum().to_string(), flush=True)


if __name__ == "__main__":
    run_step(main, globals())
