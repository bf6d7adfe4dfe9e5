"""Bring a model's checkpoint here, check it, and write its manifest."""

from pathlib import Path

from weight_atlas.artifacts import write_json
from weight_atlas.checkpoint.fetch import make_manifest
from weight_atlas.settings.models import CheckpointSpec
from weight_atlas.workflow.step import run_step


def main(
    files: list[Path] | None = None,
    *,
    manifest: Path,
    settings: CheckpointSpec,
    threads: int = 4,
) -> None:
    """Write the manifest of one model: its source, commit, and the size and SHA-256 of each of its files.

    files: the local files that the source consists of, as far as the workflow could see them; none for the hub.
    """
    print(f"{settings.source}: {len(files)} local files" if files else settings.source, flush=True)
    written = make_manifest(settings, threads=threads)
    write_json(manifest, written)
    total = sum(file["size"] for file in written["files"])
    print(f"{len(written['files'])} files, {total} bytes, revision {written['revision']}", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
