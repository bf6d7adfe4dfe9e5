"""Each key of the configuration has its type, default and description in one place, its class of settings."""

import ast
import inspect
import runpy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from parsed_workflow import parsed_steps

from weight_atlas.settings.analyses import ANALYSES, MADE_WITH
from weight_atlas.settings.base import Settings
from weight_atlas.settings.configuration import Configuration
from weight_atlas.workflow.arguments import names_of

ROOT = Path(__file__).parents[2]
STEPS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
WILDCARDS = {
    "model": "demo",
    "corpus": "python-docs",
    "task": "order",
    "ablation": "super_weights",
    "bundled": "order",
    "tokenizer": "alone",
    "vector": "embedding-norms",
    "recipe": "six",
    "series": "run",
    "part": "files-0-of-2",
    "pair": "same",
}
# What a rule works out from the whole configuration, and no class of settings holds.
FROM_THE_WHOLE = {
    "ablations", "beginning", "changes", "configuration", "corpora", "dtypes", "models", "own_code", "shares", "steps",
}  # fmt: skip


def classes(above: type[Settings] = Settings) -> Iterator[type[Settings]]:
    for section in above.__subclasses__():
        if section.__module__.startswith("weight_atlas.settings."):
            yield section
            yield from classes(section)


def defaults() -> dict[str, list]:
    """All defaults of each key, whichever class it stands in; of sections none."""
    found: dict[str, list] = {}
    for section in set(classes()) - {Configuration}:
        for key, field in section.model_fields.items():
            found.setdefault(key, []).extend([] if field.is_required() else [field.default])
    return found


@pytest.mark.parametrize("name", STEPS)
def test_a_rule_gives_all_settings_that_main_takes_and_no_others(name):
    main = runpy.run_path(str(ROOT / f"scripts/{name}.py"))["main"]
    options = parsed_steps()[name].params.get("options", {})
    given = set(options(SimpleNamespace(**WILDCARDS)) if callable(options) else options)
    wanted = {key for key, each in names_of(main).items() if each.settings}
    assert wanted <= given
    assert given - wanted <= FROM_THE_WHOLE


@pytest.mark.parametrize("name", STEPS)
def test_main_has_no_default_of_its_own_for_a_key(name):
    main = runpy.run_path(str(ROOT / f"scripts/{name}.py"))["main"]
    options = [each for each in inspect.signature(main).parameters.values() if each.kind is each.KEYWORD_ONLY]
    own = {each.name for each in options if each.default is not each.empty}
    assert own & defaults().keys() - WILDCARDS.keys() == set()


# Values of another thing, which a key has by chance.
BY_CHANCE = {
    ("data/demo/ablate.py", "show"): {"factor"},  # the demo model was made by its own scripts, without the library
    ("super_weights/causal.py", "with_causal_scores"): {"most"},  # weights of experts; the key is of interventions
}


def test_the_library_repeats_no_default():
    """A function takes a class of settings, or values without defaults. A default of another value is another thing."""
    known, repeated = defaults(), []
    for path in sorted((ROOT / "src/weight_atlas").rglob("*.py")):
        file = path.relative_to(ROOT / "src/weight_atlas").as_posix()
        for place, name, default in given_defaults(ast.parse(path.read_text())):
            trivial = default is None or default == "" or isinstance(default, bool) or file.startswith("settings/")
            if not trivial and any(default == each for each in known.get(name, ()) if not isinstance(each, bool)):
                repeated.append((file, place, name, default))
    assert [each for each in repeated if each[2] not in BY_CHANCE.get(each[:2], ())] == []


def given_defaults(tree: ast.Module) -> Iterator[tuple[str, str, object]]:
    """Defaults of parameters and of fields of classes that stand there as plain values, with their places."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            arguments = [*node.args.posonlyargs, *node.args.args]
            pairs = zip(reversed(arguments), reversed(node.args.defaults), strict=False)
            for argument, default in [*pairs, *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]:
                yield from plain(node.name, argument.arg, default)
        if isinstance(node, ast.ClassDef):
            for field in node.body:
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    yield from plain(node.name, field.target.id, field.value)


def plain(place: str, name: str, default: ast.expr | None) -> Iterator[tuple[str, str, object]]:
    try:
        value = ast.literal_eval(default) if default is not None else None
    except ValueError:
        return
    yield place, name, list(value) if isinstance(value, tuple) else value


def test_every_analysis_is_a_rule_whose_results_a_target_collects():
    collected = set()
    for path in (ROOT / "rules").glob("*.smk"):
        text = path.read_text()
        collected |= {name for name in ANALYSES if f'for_models("{name}"' in text}
    assert set(ANALYSES) - MADE_WITH.keys() <= set(STEPS)
    assert collected == set(ANALYSES)
    for name in ANALYSES:
        made = parsed_steps()[MADE_WITH.get(name, name)].output
        assert [path for path in made if path.startswith(f"results/{name}/")], name
