"""Bring a corpus here, as a table of documents."""

from pathlib import Path

from weight_atlas.artifacts import write_json, write_table
from weight_atlas.settings.corpora import Corpus
from weight_atlas.tokens.corpora import describe_corpus, documents_of
from weight_atlas.workflow.step import run_step


def main(
    files: list[Path] | None = None,
    *,
    table: Path,
    description: Path,
    settings: Corpus,
) -> None:
    """Write the documents of one corpus, and what identifies it: source, size and hash.

    files: the local files that the source consists of, as far as the workflow could see them; none for other sources.
    """
    print(f"{settings.source}: {len(files)} local files" if files else settings.source, flush=True)
    corpus = documents_of(settings)
    described = describe_corpus(corpus, settings.source, settings.split)
    write_table(table, corpus)
    write_json(description, described)
    print(f"{described['documents']} documents, {described['bytes']} bytes, sha256 {described['sha256']}", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
