"""What a run was made with, as texts for the rules that write it down: JSON, which Snakemake compares by its values."""

import json
from collections.abc import Sequence
from typing import Any

from weight_atlas.settings.model_entries import OwnSettings
from weight_atlas.settings.models import Opened

_NOT_RECORDED = ("models", "gpus", "local_downloads", "shared_cache")


def of_model(config: dict[str, Any], model: str, analyses: Sequence[str]) -> str:
    """Source, effort, seed and analyses of a model, and the settings that hold for it in place of those of all."""
    entry = config["models"][model]
    own = [*OwnSettings.model_fields, "ablations", "tasks"]
    recorded = {key: entry[key] for key in [*Opened.model_fields, "effort"]}
    recorded |= {"seed": config["seed"], "analyses": list(analyses)}
    return json.dumps(recorded | {"settings": {name: entry[name] for name in own}})


def of_run(config: dict[str, Any]) -> str:
    """All settings of a checked configuration but those of its models, and those that change nothing in a result."""
    return json.dumps({name: value for name, value in config.items() if name not in _NOT_RECORDED})
