"""The rules as Snakemake reads them: what a test asks of a rule holds however the rule is written."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def another_workflow() -> Iterator[SnakemakeApi]:
    """Snakemake in this process, beside the rules above.

    Its workflows share one set of global names, `config` among them: they are put back, so that functions of rules that
    were parsed before answer as before.
    """
    names = vars(sys.modules["snakemake.workflow"])
    before = dict(names)
    try:
        with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
            yield api
    finally:
        names.update(before)


def parsed_steps() -> dict:
    """The rules that run a script."""
    return {name: rule for name, rule in parsed_rules().items() if rule.script}
