"""Bring a file of token weights from the hub here, and write its manifest."""

from pathlib import Path

from weight_atlas.artifacts import write_json
from weight_atlas.settings.token_weights import VectorFile
from weight_atlas.token_weights.hub_file import fetch_vector
from weight_atlas.workflow.step import run_step


def main(*, manifest: Path, settings: VectorFile) -> None:
    """Write the manifest of a vector's file: its source, commit, size and SHA-256."""
    written = fetch_vector(settings)
    write_json(manifest, written)
    print(f"{written['source']}: {written['file']['size']} bytes, revision {written['revision']}", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
