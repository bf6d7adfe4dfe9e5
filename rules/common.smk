"""The checked configuration, and lookups in it, for all files of rules.

Required: config.
"""

import functools
import sys

from snakemake.pathvars import Pathvars
from snakemake.utils import update_config
from weight_atlas.ablations.choices import Choices
from weight_atlas.workflow.configuration import (
    check_paths,
    configured,
    plain_folders,
    refuse_repeated_keys,
    refuse_repeated_settings,
)
from weight_atlas.comparison.choices import Pairs, related_models
from weight_atlas.errors import AtlasError
from weight_atlas.token_weights.choices import Vectors
from weight_atlas.failed_run import write_unfinished_pages
from weight_atlas.paths import user_path
from weight_atlas.settings.analyses import ANALYSES, MADE_WITH
from weight_atlas.workflow.gpus import visible_devices
from weight_atlas.workflow.needs import SPECTRA_ON_GPU, megabytes, minutes, size_of
from weight_atlas.workflow.location import LIBRARY
from weight_atlas.workflow.parsed_code import PARSED
from weight_atlas.workflow.paths import check_place
from weight_atlas.workflow.provenance import code_digest, library_versions
from weight_atlas.workflow.renewal import Renewals
from weight_atlas.workflow.run_lock import refuse_results_of_another
from weight_atlas.workflow.selection import Selection
from weight_atlas.workflow.shared_cache import SharedCache
from weight_atlas.workflow.series import Runs
from weight_atlas.workflow.typed import typed

ROOT = Path(workflow.current_basedir.join("..").get_path_or_uri(secret_free=True)).resolve()
try:
    if workflow.modifier.is_main_snakefile():  # files and command line are another workflow's where this is its module
        refuse_repeated_keys(workflow.configfiles)
        refuse_repeated_settings(sys.argv)
        update_config(config, typed(workflow.config_settings.config))  # as typed on the command line
    config = configured(config, "configuration")
    check_paths(config)
    config["pathvars"] = plain_folders(config["pathvars"])
    selection = Selection(config, ANALYSES)
    choices = Choices(config)  # of ablations
    vectors = Vectors(config)  # of token weights
    pairs = Pairs(config)  # of models
    related = related_models(config)
    runs = Runs(config)  # whose checkpoints are models
    check_place(ROOT, "weight-atlas")
    workflow.pathvars.update(Pathvars.from_config(config))  # Snakemake took them as they were written
    places = workflow.pathvars
    config["pathvars"] = {name: places.get(name) for name in config["pathvars"]}  # a module may be given others
    refuse_results_of_another(Path(), Path(config["pathvars"]["results"]))
except AtlasError as error:
    raise WorkflowError(str(error)) from None
renewals = Renewals(Path(config["pathvars"]["results"]))


wildcard_constraints:
    model="|".join(map(re.escape, config["models"])),
    corpus="|".join(map(re.escape, config["corpora"])),
    tokenizer="|".join(map(re.escape, config["tokenizers"])),
    vector="|".join(map(re.escape, vectors.names)) or "none",
    pair="|".join(map(re.escape, pairs.names)) or "none",
    part=r"[0-9a-z-]+",


PARSED.keep(Path(".snakemake/weight-atlas-code.json"))


@functools.cache
def digest_of(step):
    return code_digest(ROOT / f"scripts/{step}.py", LIBRARY)


@functools.cache
def versions_of(step):
    """Versions of libraries that show that a step is stale, where the configuration says so."""
    found = library_versions(ROOT / f"scripts/{step}.py", LIBRARY) if config["rerun_on_versions"] else {}
    return [f"{name} {number}" for name, number in found.items()]


@functools.cache
def has_gpu():
    return bool(visible_devices())


def gpus(wildcards):
    """For `resources: gpu=` of steps that run a model: as many GPUs as the configuration says.

    None where jobs run on this machine and it has none: the steps would queue up for a device that does not exist.
    """
    own = config["models"].get(wildcards.get("model"), {}).get("gpus")
    return (config["gpus"] if own is None else own) if has_gpu() or not workflow.local_exec else 0


def one_gpu(wildcards):
    """For `resources: gpu=` of steps that use one GPU, and do not run the model."""
    return min(1, gpus(wildcards))


def gpu_for_spectra(wildcards, input):
    """For `resources: gpu=`: one GPU for the spectra of models that are large enough to gain by it."""
    return one_gpu(wildcards) if model_size(wildcards, input).stored >= SPECTRA_ON_GPU else 0


def options(section, *model_keys):
    """For `params: options=`: a section of the configuration, with keys of the model's own entry."""
    return lambda wildcards: {
        **selection.section(section, wildcards.model),
        **{key: config["models"][wildcards.model].get(key) for key in model_keys},
    }


def corpus_of(section):
    """For `input:`, the corpus that a section names, of the job's model if it is of one."""
    return lambda wildcards: f"<results>/corpus/{selection.corpus_of(section, wildcards.get('model'))}.parquet"


def for_models(analysis, pattern, **wildcards):
    """Fill a pattern for every model that has an analysis switched on."""
    return expand(pattern, model=selection.models_with(analysis), **wildcards)


def model_size(wildcards, input):
    """How large the model of a job is, of a pair the larger one, by the manifests and inventories that the job reads."""
    names = pairs.models(wildcards.pair) if wildcards.get("pair") else [wildcards.get("model")]
    return size_of(
        [path for name, path in input.items() if name.startswith("checkpoint")],
        [path for name, path in input.items() if "inventory" in name],
        [config["models"][name] for name in names if name in config["models"]],
        ask=not workflow.local_exec,  # jobs of this machine ask nobody
    )


def need(quantity):
    """For `resources:`, quantity(step, size of the model, attempt) of the step that a rule runs."""

    def needed(wildcards, input, attempt, rulename):
        return quantity(workflow.get_rule(rulename).params.step, model_size(wildcards, input), attempt)

    return needed


def needs(**more):
    """For `resources:`, which takes the place of the template's where a rule adds something."""
    return {"mem_mb": need(megabytes), "runtime": need(minutes), **more}


def step(name, *states):
    """For `params:`, the step that a rule runs and the digest of all code that its script can reach.

    states: functions of wildcards, of what else shows that the step is stale.
    """
    return {
        "step": name,
        "code": lambda wildcards: [digest_of(name), *versions_of(name), *(state(wildcards) for state in states)],
    }


TEMPLATES = ("per_model", "per_job", "per_model_on_gpu", "per_job_on_gpu")


def name_steps():
    """Let rules that use a template of rules/steps.smk be the steps of their own names.

    A name is `<step>` in paths, and `step` among params, beside the digest of its code.
    Snakemake has no path variable for the name of a rule (9.27.1).
    """
    as_before = workflow.rule
    if hasattr(as_before, "names_steps"):  # a module is read once for each `use rule ... from` of it
        return

    def named(name=None, **place):
        def made(info):
            positional, by_name = info.params or ((), {})
            if by_name.get("step") in TEMPLATES:
                info.params = positional, {**by_name, **step(name)}
                info.pathvars = {**(info.pathvars or {}), "step": name}
                modifier = workflow.modifier
                while modifier:  # what stands below `with:` takes the place of what the template has
                    if modifier.ruleinfo_overwrite and modifier.ruleinfo_overwrite.pathvars:
                        modifier.ruleinfo_overwrite.pathvars["step"] = name
                    modifier = modifier.parent_modifier
            return as_before(name=name, **place)(info)

        return made

    named.names_steps = True
    workflow.rule = named


def shown_under(category):
    """A function that puts an output into the report, with the caption of the step whose folder it lies in."""

    def shown(path, kind):
        labels = {name: f"{{{name}}}" for name in re.findall(r"{(\w+)}", path)}
        return report(path, caption=caption_of(path), category=category, labels={**labels, "type": kind})

    return shown


def shown_figures(path, category):
    """Put a folder of figures into the report, as many as there are."""
    labels = {"figure": "{figure}"}
    return report(
        directory(path), caption_of(path), category, subcategory="{model}", labels=labels, patterns=["{figure}.png"]
    )


def caption_of(path):
    return f"../report/{path.split('/')[1]}.rst"
