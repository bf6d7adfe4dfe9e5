"""What goes on around the jobs of a run: locks, what is renewed rather than made again, what is said, warm processes.

Required: config, places, renewals, ROOT.
Produces: nothing; functions for `onstart:` and the other handlers, which jobs of a cluster do not run, and for plans.
"""

import shlex
import subprocess
import time
from contextlib import ExitStack, contextmanager

import psutil
from snakemake.benchmark import benchmarked
from snakemake.script import PythonScript
from weight_atlas.costs.announce import announce
from weight_atlas.digest_records import OWN_FOLDER, DigestRecords
from weight_atlas.workflow.run_lock import hold_all
from weight_atlas.workflow.secrets import WithoutSecrets
from weight_atlas.workflow.warm_process import NotForked, WarmProcess


def hide_secrets():
    """Keep tokens of the environment out of logs: verbose jobs of SLURM print all that they were given."""
    for known in [each for each in logger.filters if isinstance(each, WithoutSecrets)]:
        logger.removeFilter(known)  # of another workflow in this process
    logger.addFilter(WithoutSecrets(os.environ))


def say_changed():
    """Name the files that somebody has changed or put back since their steps wrote them; what reads them refuses them."""
    results = Path(workflow.pathvars.apply("<results>"))
    if workflow.is_main_process and (changed := DigestRecords(results).changed()):
        logger.warning(
            "damaged, changed by hand or put back since their steps wrote them, or recorded nowhere any more; to have these "
            "files made again: rm "
            f"{shlex.join(changed[:20])}{' ...' if changed[20:] else ''}, then the same command"
        )


def say_unrecorded():
    """Say that nothing tells the bytes of earlier results, where the folder of all records was removed."""
    results = Path(config["pathvars"]["results"])
    records = DigestRecords(results)
    if (results / OWN_FOLDER).exists():
        return
    ready = [job for job in workflow.dag.jobs if is_step(job.rule) and not workflow.dag.needrun(job)]
    if kept := [path for job in ready for path in job.output if records.file_of(path) and Path(path).exists()]:
        logger.warning(
            f"{len(kept)} files of earlier runs have no record of their bytes, since {results / OWN_FOLDER} is gone; they "
            "are read as they are. weight-atlas check names them, and with --rebuild the next run makes them again."
        )


def hold_run_locks():
    try:
        workflow.globals["_run_locks"] = hold_all(Path(), Path(config["pathvars"]["results"]))
    except AtlasError as error:
        raise WorkflowError(str(error)) from None


@functools.cache
def is_step(rule):
    """Whether a rule runs a script of this workflow, which may be a module of another one."""
    script = rule.script and Path(rule.basedir.join(rule.script).get_path_or_uri(secret_free=True))
    return bool(script) and script.resolve().parent == ROOT / "scripts"


def due_steps():
    return [job for job in workflow.dag.needrun_jobs() if is_step(job.rule)]


def keep_outputs():
    """Keep what jobs may find that they would write again."""
    renewals.keep(due_steps(), lambda job: workflow.dag.reason(job).forced)


def recorded(made):
    """The function of a rule, which renewals may spare.

    What it refuses is raised below this file, so that Snakemake ends with the step's message, as for scripts; of an
    error that arises below no file of the workflow it shows the traceback.
    """
    run = renewals.recorded(made.run_func, made.benchmark.apply_wildcards)

    @functools.wraps(run)
    def run_here(*given):
        run(*given)

    return run_here


def say_renewed():
    if renewed := renewals.end():
        logger.info(f"{renewed} steps were renewed, since their inputs, settings and code are as they were.")


def say_cost():
    """Say what the jobs that run models will cost, before the first one runs."""
    names = ("ablation", "corpus", "task", "recipe")
    due = {
        (job.rule.params.step, job.wildcards.model, *filter(None, map(job.wildcards.get, names)))
        for job in due_steps()
        if job.wildcards.get("model")
    }
    announce(config, due, workflow.resource_settings.cores or 1, logger.info)


def say_what_steps_took():
    """Write the time and memory of all steps beside the pages, of this run and of those before."""
    from weight_atlas.pages.step_costs import write_step_costs

    write_step_costs(*(Path(places.apply(path)) for path in ("<benchmarks>", "<results>/atlas")))


def keep_warm():
    """Let Snakemake hand over the scripts of this workflow where it would start a process of this same Python.

    They are forks of one process, which has their libraries loaded (workflow/warm_process.py).
    """
    as_before = PythonScript.execute_script
    if sys.platform != "linux" or as_before.__module__ != "snakemake.script":
        return
    warm = WarmProcess()

    def execute_script(self, fname, edit=False):
        ours = self.is_local and Path(self.local_path).resolve().parent == ROOT / "scripts"
        if not ours or edit or self.conda_env or self.container_img or self.env_modules:
            return as_before(self, fname, edit)
        started, record = time.time(), self.bench_record
        temporary = self.resources.get("tmpdir")
        environment = {name: str(temporary) for name in ("TMPDIR", "TMP", "TEMP", "TEMPDIR") if temporary}
        try:
            code = warm.run(fname, environment, lambda pid: measured(pid, record))
        except NotForked:
            return as_before(self, fname, edit)
        if record:
            record.running_time = time.time() - started
        if code:
            raise subprocess.CalledProcessError(code, f"{sys.executable} {fname}")

    PythonScript.execute_script = execute_script


@contextmanager
def measured(pid, record):
    """Take the times and memory of a process for a benchmark, if there is one, as of a process that a shell runs."""
    with ExitStack() as watched:
        if record:
            try:
                watched.enter_context(benchmarked(pid, record))
            except psutil.NoSuchProcess:
                record.process_gone = True  # before it could be looked at
        yield
