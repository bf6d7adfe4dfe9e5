"""Exact counts of a corpus's tokens, by the tokenizer of a model or one alone."""

from pathlib import Path

from weight_atlas.artifacts import write_array, write_json, write_table
from weight_atlas.figures.style import save_figure
from weight_atlas.figures.tokens import token_coverage
from weight_atlas.numbers_of import number_of
from weight_atlas.settings.models import OwnCode
from weight_atlas.tokens.corpora import document_batches
from weight_atlas.tokens.corpus_counts import count_corpus, described
from weight_atlas.tokens.counts import read_parts
from weight_atlas.tokens.model_vocabulary import manifest_vocabulary
from weight_atlas.workflow.step import run_step


def main(
    text: Path | None = None,
    part_sizes: list[Path] | None = None,
    part_tokens: list[Path] | None = None,
    checkpoint: Path | None = None,
    tensor_inventory: Path | None = None,
    tokenizer: Path | None = None,
    *,
    table: Path,
    array: Path,
    groups: Path,
    group_tokens: Path,
    summary: Path,
    figure: Path,
    model: str = "model",
    corpus: str = "corpus",
    own: OwnCode,
) -> None:
    """Write the token counts of one tokenizer on one corpus, by group too, what they amount to, and the figure.

    text: the corpus, a table of documents; or part_sizes, part_tokens: the counts of its parts. checkpoint,
    tensor_inventory: of the model whose tokenizer counts, or tokenizer: the manifest of one without a model. model,
    corpus: names for the figure's title.
    """
    vocabulary = manifest_vocabulary(checkpoint, tensor_inventory, tokenizer, trust_remote_code=own.trust_remote_code)
    if text is None:
        counts = described(vocabulary, read_parts(part_sizes or [], part_tokens or [], len(vocabulary.texts)))
    else:
        counts = count_corpus(vocabulary, document_batches(text))
    write_table(table, counts.table)
    write_array(array, counts.counts.counts)
    write_table(groups, counts.groups)
    write_table(group_tokens, counts.counts.named())
    write_json(summary, counts.summary)
    save_figure(figure, token_coverage(counts.table, counts.summary, f"Tokens of {corpus} by {model}"))
    summed = counts.summary
    tokens, documents = number_of(summed["tokens"], "token"), number_of(summed["documents"], "document")
    print(f"{tokens} of {documents}, {number_of(summed['types'], 'type')}", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
