"""What a whole run was made with: its settings, and the record of every model."""

from pathlib import Path

from weight_atlas.artifacts import read_json, write_json
from weight_atlas.workflow.recorded import read
from weight_atlas.workflow.step import run_step


def main(models: list[Path], *, record: Path, configuration: str) -> None:
    """Write the record of a run. models: those of its models. configuration: see workflow.run_config.of_run."""
    written = {each["model"]: each for each in map(read_json, models)}
    write_json(record, {"schema": 1, **read(configuration), "models": written})


if __name__ == "__main__":
    run_step(main, globals())
