"""The rules as Snakemake reads them: what a test asks of a rule holds however the rule is written."""

from functools import cache
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

ROOT = Path(__file__).parents[1]


@cache
def parsed_rules() -> dict:
    """All rules by name, without templates, which have neither output nor input.

    A tokenizer, a recipe and a series are there.
    """
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        recipes = {"six": {"format": "llama.cpp", "bits": 6}}
        given = {
            "tokenizers": {"alone": {"source": "bundled:demo"}},
            "pairs": {"same": ["demo", "demo"]},
            "lineage": {"models": "all"},
            "series": {"run": ["demo"]},
        }
        more = ConfigSettings(config={**given, "recipes": recipes})
        cores = ResourceSettings(cores=1)
        workflow = api.workflow(cores, config_settings=more, snakefile=ROOT / "Snakefile")._workflow
        return {rule.name: rule for rule in workflow.rules if rule.output or rule.input}


def parsed_steps() -> dict:
    """The rules that run a script."""
    return {name: rule for name, rule in parsed_rules().items() if rule.script}
