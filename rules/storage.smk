"""Where files lie: beside Snakemake, or, where it has a default storage provider, results and logs in that.

Required: ROOT.
Produces: nothing.
"""

from snakemake.io import is_callable, strip_wildcard_constraints
from snakemake.rules import Rule
from weight_atlas.workflow.paths import for_snakemake


def expand_path_variables_of_rules():
    """Let Snakemake expand a rule's path variables also where a default storage provider takes its log and benchmark.

    By itself it would know only the workflow's there (9.27.1).
    """
    as_before = Rule.apply_path_modifier
    if as_before.__module__ != "snakemake.rules":
        return

    def apply_path_modifier(self, item, path_modifier, property=None):
        if property in ("log", "benchmark"):
            item = self.pathvars.apply(item)
        return as_before(self, item, path_modifier, property=property)

    Rule.apply_path_modifier = apply_path_modifier


if workflow.storage_settings.default_storage_provider:
    expand_path_variables_of_rules()


def patterns_of(paths):
    """Inputs or outputs of a rule as they stand in it, functions left out. A storage has them by names of its own."""
    prefix = (workflow.storage_settings.default_storage_prefix or "").rstrip("/")
    named = [path for path in paths if not is_callable(path)]
    stored = [path.storage_object.query.removeprefix(f"{prefix}/") if path.is_storage else path for path in named]
    return list(map(strip_wildcard_constraints, stored))


def written_by(name):
    """The outputs of a rule, as patterns to fill."""
    return patterns_of(getattr(rules, name).output)


def own_files(paths):
    """For `input:`, the user's files that Snakemake can watch. They stay where they are, whatever the default storage."""
    return list(map(local, for_snakemake(paths)))


def caption_file(step):
    """For `input:`, what pages say of a step: a file of the workflow, which lies where that does."""
    return local(f"{ROOT}/report/{step}.rst")


def task_files(wildcards):
    """What defines a bundled task: a file of the library, and the items that are made from a corpus."""
    files = choices.task_files(wildcards.task, TASK_FILES)
    return {name: local(path) if name == "definition" else path for name, path in files.items()}
