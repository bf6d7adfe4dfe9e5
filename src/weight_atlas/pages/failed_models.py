"""After a run in which steps failed: which models are concerned, and why, in a few lines for the end of its output."""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from weight_atlas.errors import AtlasError
from weight_atlas.pages.unfinished import last_words

MOST, WORDS = 40, 300


def failures_told(dag: Any, failed: Collection[Any]) -> str:
    """What failed, by model; what is of no single model comes last.

    dag: Snakemake's graph of jobs. failed: those of its jobs that failed; what waits for them is not counted.
    """
    jobs = sorted(failed, key=lambda job: (_model(job) is None, _model(job) or "", job.rule.name))
    models = {model for job in dag.jobs if (model := _model(job)) is not None}
    bad = {model for job in jobs if (model := _model(job)) is not None}
    head = f"Steps failed of {len(bad)} of {len(models)} models" if bad else "Steps failed that are of no single model"
    return str(
        AtlasError(
            "\n".join([f"{head}:", *_lines(jobs)]),
            remedy="mend what they say, and run the same command again: it goes on where it stopped; with --keep-going "
            "the other models come to their end first",
        )
    )


def _lines(jobs: list[Any]) -> Iterator[str]:
    for job in jobs[:MOST]:
        of = [str(value) for name, value in job.wildcards.items() if name != "model"]
        step = " ".join([job.rule.name, *of])
        words = last_words(Path(job.log[0]) if job.log else None).removeprefix("error: ")
        said = words if len(words) <= WORDS else f"{words[:WORDS]}..."
        yield f"    {_model(job) or '(all)'}: {step}: {said}"
    if len(jobs) > MOST:
        yield f"    and {len(jobs) - MOST} more"


def _model(job: Any) -> str | None:
    return job.wildcards.get("model")
