"""The rules as Snakemake reads them: what a test asks of a rule holds however the rule is written."""

from functools import cache
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.settings.types import OutputSettings, Quietness, ResourceSettings

ROOT = Path(__file__).parents[1]


@cache
def parsed_rules() -> dict:
    """All rules by name, with the default configuration; templates, which have neither output nor input, left out."""
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(resource_settings=ResourceSettings(cores=1), snakefile=ROOT / "Snakefile")._workflow
        return {rule.name: rule for rule in workflow.rules if rule.output or rule.input}


def parsed_steps() -> dict:
    """The rules that run a script."""
    return {name: rule for name, rule in parsed_rules().items() if rule.script}
