"""What all rule files share: the checked configuration, and lookups in it.

Required: config, schemas/config.schema.json.
"""

import json

from weight_atlas.configuration import configured
from weight_atlas.errors import AtlasError
from weight_atlas.provenance import code_digest
from weight_atlas.run_lock import hold

ROOT = Path(workflow.current_basedir.join("..").get_path_or_uri(secret_free=True)).resolve()
try:
    config = configured(config, json.loads((ROOT / "schemas/config.schema.json").read_text()), "configuration")
except AtlasError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    model="|".join(map(re.escape, config["models"])),
    corpus="|".join(map(re.escape, config["corpora"])) or "none",


def code_of(rule):
    """For `params: code=`: the digest of all code that a rule's script can reach."""
    return lambda wildcards: code_digest(ROOT / f"scripts/{rule}.py", ROOT / "src")


def options(section, *model_keys):
    """For `params: options=`: a section of the configuration, with keys of the model's own entry."""
    return lambda wildcards: {
        **config.get(section, {}),
        **{key: config["models"][wildcards.model].get(key) for key in model_keys},
    }


def for_models(analysis, pattern, **wildcards):
    """Fill a pattern for every model that has an analysis switched on."""
    models = [name for name, model in config["models"].items() if analysis in model["analyses"]]
    return expand(pattern, model=models, **wildcards)


def hold_run_lock():
    try:
        workflow.globals["_run_lock"] = hold(Path(".snakemake/weight-atlas.lock"))
    except AtlasError as error:
        raise WorkflowError(str(error)) from None
