"""What a model was analysed with: source, commit, effort, seed, and the settings that hold for it."""

from pathlib import Path

from weight_atlas.artifacts import read_json, write_json
from weight_atlas.workflow.recorded import read
from weight_atlas.workflow.step import run_step


def main(checkpoint: Path, *, record: Path, model: str, configuration: str) -> None:
    """Write the record of one model. configuration: as JSON; see workflow.run_config.of_model."""
    commit = read_json(checkpoint)["revision"]
    write_json(record, {"schema": 1, "model": model, **read(configuration), "commit": commit})


if __name__ == "__main__":
    run_step(main, globals())
