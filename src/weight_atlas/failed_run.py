"""After a failed run: the pages that it asked for, written in the workflow's own process of what there is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from weight_atlas.errors import AtlasError


def write_unfinished_pages(workflow: Any, say: Callable[[str], None]) -> None:
    """Write the pages and the overview that a run asked for and did not come to, marked incomplete.

    workflow: Snakemake's, after its last job. A run that was stopped, in which nothing failed, leaves none. What goes
    wrong here is said, and does not take the place of the failure itself.
    """
    failed = {part for job in workflow.scheduler.failed for part in (job.jobs if job.is_group() else [job])}
    if not failed:
        return
    # Building the graph of jobs, which every dry run does, must not pay for pandas.
    from weight_atlas.pages.failed_models import failures_told
    from weight_atlas.pages.unfinished import WRITERS, unfinished

    dag, summaries = workflow.dag, dict[Path, dict]()
    for job in unfinished(dag, WRITERS):
        try:
            workflow.persistence.cleanup(job)
            WRITERS[job.rule.params.step](dag, failed, job, summaries)
            say(f"Incomplete, since steps failed: {job.output.page}")
        except Exception as error:
            reason = str(error) if isinstance(error, AtlasError) else f"{type(error).__name__}: {error}"
            say(f"No page could be written: {job.output.page}: {'; '.join(map(str.strip, reason.splitlines()))}")
    say(failures_told(dag, failed))
