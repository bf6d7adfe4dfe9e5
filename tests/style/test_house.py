"""The house rules that a machine can check."""

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from imports import imports
from parsed_workflow import parsed_steps

from weight_atlas import metrics
from weight_atlas.settings.analyses import MADE_WITH
from weight_atlas.settings.base import NAME
from weight_atlas.workflow.needs import NEEDS
from weight_atlas.workflow.provenance import closure, code_digest

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "src/weight_atlas"
BIN = Path(sys.executable).parent

STEPS = sorted(path.stem for path in (ROOT / "scripts").glob("*.py"))
# Other folders that a step writes into: what comes from one reading of the weights is one job.
ALSO_WRITES = {
    "fetch_checkpoint": ["checkpoints"],
    "value_histogram": ["weight_profile"],
    "intervention_targets": ["windows"],
    "impact_summary": ["ablation_impact"],
    "run_configs": ["run_config.json"],
    "atlas": ["run_config"],
    "overview": ["atlas"],
    "pair_page": ["atlas"],
    "series_page": ["atlas"],
    "vector_page": ["atlas"],
    "atlas_assets": ["atlas"],
}

# What a job may be of, for functions of wildcards.
WILDCARDS = SimpleNamespace(
    model="demo",
    corpus="python-docs",
    task="order",
    tokenizer="alone",
    vector="embedding-norms",
    part="0",
    pair="same",
    series="run",
)


@pytest.mark.parametrize("path", sorted((ROOT / "scripts").glob("*.py")), ids=lambda path: path.name)
def test_scripts_are_thin(path):
    text = path.read_text()
    assert "from __future__" not in text, "Snakemake puts code above it"
    assert len(text.splitlines()) <= 60
    siblings = {other.stem for other in (ROOT / "scripts").glob("*.py")}
    assert not siblings & {name.split(".")[0] for name in imports(path)}
    assert "run_step(main, globals())" in text
    assert ast.get_docstring(ast.parse(text))


def test_one_name_runs_through():
    """From a rule's name to its script, folder of results, log, benchmark and captions."""
    assert sorted(parsed_steps()) == STEPS
    for name, rule in parsed_steps().items():
        assert rule.script == f"../scripts/{name}.py"
        assert rule.params.code(WILDCARDS)[0] == code_digest(ROOT / f"scripts/{name}.py", LIBRARY)
        beside = [*ALSO_WRITES.get(name, ()), *(each for each, by in MADE_WITH.items() if by == name)]
        assert {path.split("/")[1] for path in rule.output} <= {name, *beside}
        for path, folder in ((rule.log[0], "logs"), (rule.benchmark, "logs/benchmarks")):
            assert re.match(rf"{folder}/{name}[/.]", path), path
        for path in rule.output:
            if shown := path.flags.get("report"):
                caption = ROOT / f"report/{path.split('/')[1]}.rst"
                assert Path(shown.caption.get_path_or_uri(secret_free=True)).resolve() == caption
                assert caption.is_file()


def test_every_table_is_in_the_registry_of_metrics():
    """And every table of the registry is an output; which columns they have is tested on a run."""
    paths = [path for rule in parsed_steps().values() for path in rule.output]
    # {model,a|b} of constrained wildcards, and names that Snakemake gives the parts
    files = {re.sub(r"\{(\w+),[^}]*\}", r"{\1}", path).removeprefix("results/") for path in paths}
    files |= {f"{file}/{{ablation}}.csv" for file in files if file == "ablation_impact/{model}"}  # a folder of them
    registered = {table.file for table in metrics.tables().values()}
    assert {file for file in files if file.endswith((".csv", ".parquet"))} - registered == set()
    assert registered - files == set()


@pytest.mark.parametrize("name", STEPS)
def test_steps_declare_what_they_need(name):
    rule = parsed_steps()[name]
    assert rule.docstring
    for needed in (rule.input, rule.output, rule.log, rule.benchmark, rule.conda_env):
        assert needed
    assert {"mem_mb", "runtime"} <= set(rule.resources)


def test_every_need_is_of_a_step():
    assert set(NEEDS) <= set(STEPS)


def test_steps_that_can_use_a_gpu_ask_for_one():
    """Where they stand, or by the name of their template, so that the rule itself shows it."""
    can = {name for name in STEPS if "device: str" in (ROOT / f"scripts/{name}.py").read_text()}
    assert {name for name, rule in parsed_steps().items() if "gpu" in rule.resources} == can


@pytest.mark.parametrize("name", STEPS)
def test_outputs_are_the_paths_that_main_must_be_given_by_keyword(name):
    """Where a step does not apply, these are written as artifacts that say so."""
    outputs = {output for output, _ in parsed_steps()[name].output.items()}
    tree = ast.parse((ROOT / f"scripts/{name}.py").read_text())
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    given = zip(main.args.kwonlyargs, main.args.kw_defaults, strict=True)
    assert outputs == {
        each.arg for each, default in given if default is None and ast.unparse(each.annotation) == "Path"
    }


def test_no_name_of_a_model_ends_like_a_file_of_the_results():
    """Else the file of one model is a folder, or a file, of another."""
    paths = [path for rule in parsed_steps().values() for path in [*rule.output, *rule.log, rule.benchmark]]
    wildcard = r"\{(?:model|corpus|ablation|task|vector|pair|scatteritem)(?:,[^}]*)?\}((?:\.\w+)+)$"
    ends = {end for path in paths for end in re.findall(wildcard, path)}
    assert {".csv", ".steps.csv", ".changes.parquet", ".log"} <= ends
    for end in {part for whole in ends for part in (whole, whole.rpartition(".")[0]) if part}:
        assert not re.match(NAME, f"x{end}"), end


def test_captions_serve_the_page_too():
    """The page shows captions as they stand: what only the report could fill in may not be in them."""
    assert not [
        path.name for path in (ROOT / "report").glob("*.rst") if "{{" in path.read_text() and path.stem != "workflow"
    ]


def test_library_modules_have_one_job():
    long = {path.name: n for path in LIBRARY.rglob("*.py") if (n := len(path.read_text().splitlines())) > 350}
    assert long == {}
    assert not [path for path in LIBRARY.rglob("*.py") if path.stem in ("utils", "helpers", "common", "misc")]


def test_environments_are_pinned_to_the_lock():
    lock = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), flags=re.M))
    lock = {name.lower().replace("_", "-"): version for name, version in lock.items()}
    for path in (ROOT / "envs").glob("*.yaml"):
        (pip,) = (item["pip"] for item in yaml.safe_load(path.read_text())["dependencies"] if isinstance(item, dict))
        for line in pip:
            name, version = line.split("==")
            assert lock[name.lower().replace("_", "-")] == version, f"{path.name}: {line}"


# What a step needs that none of its files imports: transformers asks for it when load_model places a model, and pandas
# when it writes parquet or Markdown.
UNSEEN = {
    "weight_atlas/live/load.py": {"accelerate", "safetensors", "tokenizers"},
    "weight_atlas/artifacts.py": {"pyarrow"},
    "weight_atlas/markdown.py": {"tabulate"},
}
DISTRIBUTIONS = packages_distributions()


def distributions(files):
    """The distributions that files of the project import from, at the top or inside functions, by normalised name."""
    modules = {name.split(".")[0] for path in files.values() if path.suffix == ".py" for name in imports(path) if name}
    outside = modules - set(sys.stdlib_module_names) - {"weight_atlas", "snakemake"}
    unseen = {each for name in files for each in UNSEEN.get(name, ())}
    return {normalised(DISTRIBUTIONS[module][0]) for module in outside} | unseen


def test_what_is_needed_unseen_is_said_of_files_that_are_there():
    assert [name for name in UNSEEN if not (ROOT / "src" / name).is_file()] == []


def normalised(name):
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name)[0]).lower()


@pytest.mark.parametrize("name", STEPS)
def test_the_environment_of_a_step_has_all_that_the_step_imports(name):
    environment = Path(parsed_steps()[name].conda_env).name
    dependencies = yaml.safe_load((ROOT / "envs" / environment).read_text())["dependencies"]
    (pip,) = (item["pip"] for item in dependencies if isinstance(item, dict))
    needed = distributions(closure(ROOT / f"scripts/{name}.py", LIBRARY))
    assert needed - {normalised(line) for line in pip} == set(), environment


def test_the_project_declares_all_that_it_imports():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + project["optional-dependencies"]["eval"]
    files = {path.relative_to(ROOT / "src").as_posix(): path for path in LIBRARY.rglob("*.py")}
    assert distributions(files) - {normalised(line) for line in declared} == set()


def run(*command):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_ruff():
    done = run(BIN / "ruff", "check", ".")
    assert done.returncode == 0, done.stdout
    done = run(BIN / "ruff", "format", "--check", ".")
    assert done.returncode == 0, done.stdout


def test_snakefmt():
    done = run(BIN / "snakefmt", "--check", "Snakefile", "rules")
    assert done.returncode == 0, done.stderr


def test_lint():
    done = run(BIN / "snakemake", "--lint")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "path"), [("schema", "schemas/config.schema.json"), ("reference", "config/README.md")]
)
def test_what_is_written_from_the_settings_is_up_to_date(module, path):
    done = run(sys.executable, "-m", f"weight_atlas.settings.{module}")
    assert done.stdout == (ROOT / path).read_text()
