"""The exact distribution of the values of every tensor, and the profile of every matrix."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.families.pieces import load_piece
from weight_atlas.streamed.merging import one_by_one
from weight_atlas.weights.histogram_table import histogram_parts, histogram_parts_of, write_parts
from weight_atlas.weights.profile_table import profile_file, write_profiles
from weight_atlas.weights.streaming import portions, readings, skipped, warned
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    inventory: Path,
    histograms: list[Path] | None = None,
    profiles: list[Path] | None = None,
    *,
    table: Path,
    profile: Path,
    left_out: Path,
    threads: int = 1,
) -> None:
    """Write the value histogram of every tensor of one model and the profile of every matrix, from one reading.

    histograms, profiles: of a streamed model, what its parts have of them. left_out: the tensors without one, with the
    reason.
    """
    tensors = read_table(inventory)
    if histograms and profiles:
        write_profiles(profile, one_by_one(profiles), tensors)
        rows = write_parts(table, histogram_parts_of(one_by_one(histograms)))
    else:
        work = portions(tensors, open_checkpoint(checkpoint), load_piece)
        with profile_file(profile, tensors) as file:
            read = file.passing(warned(readings(work, threads)))
            rows = write_parts(table, histogram_parts(tensors, read))
    without = skipped(tensors)
    write_table(left_out, without)
    print(f"{rows} histograms; {len(without)} tensors left out", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
