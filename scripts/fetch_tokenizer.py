"""Bring a tokenizer without a model here, and write its manifest."""

from pathlib import Path

from weight_atlas.artifacts import write_json
from weight_atlas.settings.tokenizers import TokenizerSpec
from weight_atlas.tokens.tokenizer_fetch import fetch_tokenizer
from weight_atlas.workflow.step import run_step


def main(files: list[Path] | None = None, *, manifest: Path, settings: TokenizerSpec) -> None:
    """Write the manifest of one tokenizer: its source, commit, and the size and SHA-256 of each of its files.

    files: the local files that the source consists of, as far as the workflow could see them; none for the hub.
    """
    print(f"{settings.source}: {len(files)} local files" if files else settings.source, flush=True)
    written = fetch_tokenizer(settings)
    write_json(manifest, written)
    print(f"{len(written['files'])} files, revision {written['revision']}", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
