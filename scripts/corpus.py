"""Bring a corpus here, as a table of documents."""

from pathlib import Path

from weight_atlas.artifacts import write_json
from weight_atlas.settings.corpora import Corpus
from weight_atlas.tokens.corpora import write_corpus
from weight_atlas.workflow.step import run_step


def main(
    files: list[Path] | None = None,
    *,
    beginning: bool = False,
    table: Path,
    description: Path,
    settings: Corpus,
) -> None:
    """Write the documents of one corpus, and what identifies it: source, size and hash.

    files: the local files that the source consists of, as far as the workflow could see them; none for other sources.
    beginning: whether only so much is written as a part of the corpus has.
    """
    print(f"{settings.source}: {len(files)} local files" if files else settings.source, flush=True)
    described = write_corpus(table, settings, beginning=beginning)
    write_json(description, described)
    print(f"{described['documents']} documents, {described['bytes']} bytes, sha256 {described['sha256']}", flush=True)
    if not described["complete"]:
        print("this is the beginning of a larger corpus, whose tokens are counted from its files", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
