"""Which tokens of a model's vocabulary are digits, pronouns, punctuation: one boolean matrix."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.not_applicable import if_applicable
from weight_atlas.settings.models import OwnCode
from weight_atlas.settings.vocabulary import TokenClasses
from weight_atlas.tokens.model_vocabulary import read_vocabulary
from weight_atlas.vocabulary.token_classes import CLASSES, read_token_classes
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path, tensor_inventory: Path, untrained_rows: Path, *, table: Path, settings: TokenClasses, own: OwnCode
) -> None:
    """Write one row per token id: token, text, special, untrained, and a boolean column for each class."""
    opened = open_checkpoint(checkpoint)
    vocabulary = read_vocabulary(
        opened.folder, opened.config, read_table(tensor_inventory), trust_remote_code=own.trust_remote_code
    )
    rows = if_applicable(untrained_rows) if settings.leave_out_untrained else None
    untrained = [] if rows is None else rows["token_id"].tolist()
    tokens = read_token_classes(vocabulary.tokenizer, vocabulary.texts, untrained)
    write_table(table, tokens)
    print(f"{tokens.untrained.sum()} tokens without training are left out", flush=True)
    print(tokens[list(CLASSES)].sum().to_string(), flush=True)


if __name__ == "__main__":
    run_step(main, globals())
