"""Exact counts of the tokens of one part of a corpus, straight from its files."""

from pathlib import Path

from weight_atlas.numbers_of import number_of
from weight_atlas.settings.corpora import Corpus
from weight_atlas.settings.models import OwnCode
from weight_atlas.tokens.corpora import part_documents
from weight_atlas.tokens.counting import count_tokens
from weight_atlas.tokens.counts import write_part
from weight_atlas.tokens.model_vocabulary import manifest_vocabulary
from weight_atlas.tokens.parts import parse_share
from weight_atlas.tokens.progress import Progress
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path | None = None,
    tensor_inventory: Path | None = None,
    tokenizer: Path | None = None,
    files: list[Path] | None = None,
    *,
    shares: list[str],
    group_sizes: Path,
    group_tokens: Path,
    settings: Corpus,
    own: OwnCode,
) -> None:
    """Write the token counts of one part of a corpus, by group.

    checkpoint, tensor_inventory: of the model whose tokenizer counts, or tokenizer: the manifest of one without a
    model. shares: of which files the part consists, "0/1 PATH" for a whole one, "2/8 PATH" for the third of eight
    shares. files: these, as far as the workflow could see them.
    """
    vocabulary = manifest_vocabulary(checkpoint, tensor_inventory, tokenizer, trust_remote_code=own.trust_remote_code)
    wanted = [parse_share(share) for share in shares]
    progress = Progress(sum(Path(share.path).stat().st_size // share.of for share in wanted))
    batches = part_documents(wanted, settings, progress)
    counts = count_tokens(vocabulary.tokenizer, batches, len(vocabulary.texts), file=vocabulary.file)
    write_part(counts, group_sizes, group_tokens)
    print(f"{number_of(int(counts.counts.sum()), 'token')}; {progress.line()}", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
