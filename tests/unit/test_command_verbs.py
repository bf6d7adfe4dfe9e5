"""What commands ask of the project and of the workflow, and what they show; the workflow itself is stood in for."""

import json
import sys
from pathlib import Path

import pytest

from weight_atlas.command import engine, main
from weight_atlas.command.engine import Outcome
from weight_atlas.command.project import Project
from weight_atlas.workflow.configuration import configured


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run the command in a folder; returns its exit code, what it printed and the targets that it asked for.

    files: what the workflow would have left, by path below the results.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments, files=None, code=0):
        asked = []

        def stand_in(project, targets, how):
            asked.extend(targets)
            for model in project.models:
                write(project.results / f"checkpoints/{model}.json", '{"files": [{"size": 1}]}')
            for name, content in (files or {}).items():
                write(project.results / name, content)
            return Outcome(code, [])

        monkeypatch.setattr(engine, "run", stand_in)
        monkeypatch.setattr(sys, "argv", ["weight-atlas", *arguments])
        try:
            main()
            ended = 0
        except SystemExit as end:
            ended = end.code
        return ended, capsys.readouterr().out, [each.removeprefix("results/") for each in asked]

    return run


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def here():
    return Project(Path())


def document():
    return here().document


def test_flags_of_super_weights_become_keys_that_stay(command):
    code, _, asked = command(
        "super-weights", "--models", "bundled:demo", "--spike-threshold", "50.0", "--max-iterations", "5",
        "--perplexity-samples", "20", "--accuracy-samples", "100", "--accuracy-tasks", "hellaswag", "bundled:order",
        "--results-dir", "out", "--router-analysis-samples", "7",
    )  # fmt: skip
    assert code == 0
    assert {"super_weights/demo.csv", "ablation_perplexity/demo.csv", "findings/demo.json",
            "expert_routing/demo.csv", "ablation_impact/demo"} <= {*asked}  # fmt: skip
    written = Project(Path("out")).configured()
    assert written["super_weights"]["spike_threshold"] == 50 and written["super_weights"]["max_iterations"] == 5
    assert written["variant_perplexity"]["tokens"] == 20 * 256 and written["variant_perplexity"]["window"] == 256
    assert {name: (task["name"], task["limit"]) for name, task in written["tasks"].items()} == {
        "hellaswag": (None, 100), "order": ("bundled:order", 100),
    }  # fmt: skip
    assert written["expert_routing"]["router_analysis_samples"] == 7


def test_what_cannot_begin_is_one_message_and_leaves_nothing(command, tmp_path):
    (tmp_path / "file").touch()
    code, *_ = command("scan", "bundled:demo", "--directory", "file")
    assert code.startswith("error: a file has the name of a folder above it") and "where: file" in code
    assert command("compare", "bundled:demo", "bundled:demo")[0].startswith("error: a model compared with itself")
    assert not (tmp_path / "weight-atlas.yaml").exists()


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["weight-atlas", "scan", "bundled:demo", "--profile", "nope"])
    with pytest.raises(SystemExit, match="error: no such profile: nope"):
        main()
    assert not list(tmp_path.iterdir())


def test_flags_of_vocabulary_become_keys_and_a_text_a_corpus(command, tmp_path):
    code, _, asked = command(
        "vocabulary", "--models", "bundled:demo", "--dataset", "wikitext-2", "--tokens", "30000", "--window-len",
        "1024", "--stride", "512", "--drop-first-token", "--enable-cosine", "--enable-enrichment", "--enable-cascade",
        "--bootstrap", "100", "--seed", "42", "--spike-threshold", "60",
    )  # fmt: skip
    assert code == 0
    assert "cascade/demo.csv" in asked and "super_weight_cards/demo/super_weights.csv" in asked
    written = here().configured()
    assert list(written["corpora"]) == ["python-docs", "wikitext-2"], "what other steps read stays the first"
    windows = {key: written["windows"][key] for key in ("corpus", "tokens", "window_len", "stride", "drop_first_token")}
    assert windows == {
        "corpus": "wikitext-2", "tokens": 30000, "window_len": 1024, "stride": 512, "drop_first_token": True,
    }  # fmt: skip
    assert written["super_weight_cards"]["bootstrap"] == 100 and written["interventions"]["seed"] == 42
    assert written["super_weights"]["spike_threshold"] == 60
    assert command("vocabulary", "bundled:demo", "--dataset", "nope")[0].startswith("error: no such text")


def test_a_recipe_has_a_name_of_its_tool_and_size(command):
    table = "unit,matrices,type,bits\na.weight,1,Q4_K,4.5\n"
    made = {"quantization_recipe/demo/llama.cpp-4.5.csv": table}
    code, out, asked = command("recipe", "bundled:demo", "--bits", "4.5", "--format", "llama.cpp", files=made)
    assert code == 0 and "Q4_K" in out and "llama.cpp-4.5.files" in out
    assert asked == ["quantization_recipe/demo/llama.cpp-4.5.csv"]
    assert document()["recipes"] == {"llama.cpp-4.5": {"format": "llama.cpp", "bits": 4.5}}
    assert command("recipe", "bundled:demo")[0].startswith("error: a recipe has one size")


def test_an_evaluation_shows_scores_beside_guessing(command):
    scores = {"chance": {"order": 0.25}, "skipped": [], "variants": [{
        "documents": {"order": 10}, "results": {"order": {"acc,none": 0.75}}, "groups": {}}]}  # fmt: skip
    made = {"ablation_eval/demo/baseline/order.json": json.dumps(scores)}
    code, out, asked = command("evaluate", "bundled:demo", "--tasks", "bundled:order", "--json", files=made)
    assert code == 0 and asked == ["ablation_eval/demo/baseline/order.json"]
    (found,) = json.loads(out)["models"][0]["extracts"]
    assert found["rows"] == [{"task": "order", "metric": "acc,none", "value": 0.75, "guessing": 0.25, "documents": 10}]


def test_a_comparison_adds_its_pair_once_and_states_its_findings(command, tmp_path):
    (tmp_path / "tuned").mkdir()
    summary = {"a": "demo", "b": "tuned", "relation": "edited", "whole": {"cosine": 0.9, "relative": 0.1},
               "findings": [{"grade": "notable", "text": "tuned is demo but for one tensor"}]}  # fmt: skip
    changed = (
        "id_a,relative,relative_null,cosine\nmodel.layers.0.a.weight,.1,1.4,.9\nmodel.layers.1.b.weight,.5,1.4,.8\n"
    )
    made = {
        "comparison/demo-vs-tuned.json": json.dumps(summary),
        "comparison/demo-vs-tuned/tensors.csv": changed,
    }
    for arguments in (("bundled:demo", "tuned"), ("--model1", "demo", "--model2", "tuned")):
        code, out, asked = command("compare", *arguments, "--fail-on", "notable", files=made)
        assert code == 2 and asked == ["comparison/demo-vs-tuned.csv"]
        assert "demo -> tuned: edited" in out and "tuned is demo but for one tensor" in out
        assert out.index("layers.1.b") < out.index("layers.0.a"), "what changed most is first"
        assert "by chance" in out
    assert document()["pairs"] == {"demo-vs-tuned": ["demo", "tuned"]}
    assert command("compare", "demo", "demo")[0].startswith("error: a model compared with itself")


def test_the_other_way_round_is_a_comparison_of_its_own(command, tmp_path):
    (tmp_path / "tuned").mkdir()
    whole = {"relation": "edited", "whole": {}, "findings": []}
    made = {
        "comparison/demo-vs-tuned.json": json.dumps({"a": "demo", "b": "tuned", **whole}),
        "comparison/tuned-vs-demo.json": json.dumps({"a": "tuned", "b": "demo", **whole}),
    }
    command("compare", "bundled:demo", "tuned", files=made)
    before = Path("weight-atlas.yaml").read_text()
    assert command("compare", "tuned", "demo", "--dry-run", files=made)[2] == ["comparison/tuned-vs-demo.csv"]
    assert Path("weight-atlas.yaml").read_text() == before
    code, out, asked = command("compare", "tuned", "demo", files=made)
    assert code == 0 and asked == ["comparison/tuned-vs-demo.csv"]
    assert "tuned -> demo: edited" in out and "demo -> tuned" not in out
    assert "demo -> tuned: edited" in command("compare", "demo", "tuned", files=made)[1]
    assert document()["pairs"] == {"demo-vs-tuned": ["demo", "tuned"], "tuned-vs-demo": ["tuned", "demo"]}


@pytest.mark.parametrize("pairs", ["all", "{base: demo}"])
def test_pairs_that_are_not_named_keep_their_order(command, tmp_path, pairs):
    (tmp_path / "tuned").mkdir()
    models = "{demo: {source: 'bundled:demo'}, tuned: {source: tuned}}"
    Path("weight-atlas.yaml").write_text(f"models: {models}\npairs: {pairs}\n")
    assert command("compare", "demo", "tuned")[2] == ["comparison/demo-vs-tuned.csv"]
    error, _, asked = command("compare", "tuned", "demo")
    assert "leaves out tuned -> demo" in error and "it has demo -> tuned: ask for that" in error and not asked


def test_a_name_that_another_pair_has_is_not_taken_from_it(command, tmp_path):
    (tmp_path / "tuned").mkdir()
    models = "{demo: {source: 'bundled:demo'}, tuned: {source: tuned}}"
    Path("weight-atlas.yaml").write_text(
        f"models: {models}\npairs: {{demo-vs-tuned: [tuned, demo], base: [tuned, demo]}}\n"
    )
    assert command("compare", "demo", "tuned")[2] == ["comparison/demo-vs-tuned-2.csv"]
    assert document()["pairs"]["demo-vs-tuned"] == ["tuned", "demo"]


def test_a_series_is_models_revisions_or_a_pattern(command, tmp_path):
    for number in (1, 2):
        write(tmp_path / f"runs/checkpoint-{number}/model.safetensors", "")
    summary = {"models": ["a", "b"], "findings": [{"grade": "info", "text": "it moved"}]}
    made = {"series/mine.json": json.dumps(summary)}
    code, out, asked = command("series", "./runs/checkpoint-*", "--name", "mine", files=made)
    assert code == 0 and "it moved" in out and asked == ["series/mine.json", "atlas/series/mine.md"]
    assert document()["series"]["mine"]["source"] == "./runs/checkpoint-*"
    command("series", "org/model", "--revisions", "step1", "step2", "--name", "pythia")
    assert document()["series"]["pythia"]["revisions"] == ["step1", "step2"]
    command("series", "runs/checkpoint-1", "runs/checkpoint-2", "--methods", "spectral")
    assert document()["series"]["run"] == ["checkpoint-1", "checkpoint-2"]
    assert document()["models"]["checkpoint-2"]["analyses"] == ["effective_rank", "heavy_tail"]
    command("series", "runs/checkpoint-*", "--directory", "elsewhere", files=made)
    assert Project(Path("elsewhere")).document["series"]["run"]["source"] == str(tmp_path / "runs/checkpoint-*")


def test_a_model_named_twice_has_no_relations(command):
    code, _, asked = command("lineage", "bundled:demo", "bundled:demo")
    assert "one model has no relations" in code and not asked and not Path("weight-atlas.yaml").exists()


def test_a_quiet_command_leaves_tables_out_and_a_dry_run_is_json_too(command):
    found = {"findings": [], "whole": {}, "a": "demo", "b": "other", "relation": "edited"}
    made = {
        "comparison/demo-vs-other.json": json.dumps({**found, "findings": [{"grade": "info", "text": "it differs"}]}),
        "comparison/demo-vs-other/tensors.csv": "id_a,relative\nq,0.5\n",
    }
    write(Path("weight-atlas.yaml"), "models: {demo: {source: 'bundled:demo'}, other: {source: x}}")
    for flag, shown in ((), True), (("--quiet",), False):
        code, out, _ = command("compare", "demo", "other", *flag, files=made)
        assert code == 0 and "it differs" in out and ("┏" in out) is shown
    code, out, _ = command("compare", "demo", "other", "--dry-run", "--json", files=made)
    assert code == 0 and json.loads(out)["failures"] == []


def test_lineage_gathers_the_models_that_are_asked_for(command, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    code, _, asked = command("lineage", "a", "b")
    assert code == 0 and asked == ["lineage/models.csv"]
    command("lineage", "c", "a")
    assert document()["lineage"]["models"] == ["a", "b", "c"]
    assert command("lineage", "a")[0].startswith("error: one model has no relations")


def test_keys_of_the_configuration_are_set_and_checked(command):
    command("scan", "bundled:demo", "--set", "effective_rank.phases=4", "--set", "heavy_tail.bootstrap=0")
    assert configured(document(), "x")["effective_rank"]["phases"] == 4
    assert "unknown key 'phase'" in command("scan", "bundled:demo", "--set", "effective_rank.phase=4")[0]
    assert command("scan", "bundled:demo", "--set", "nonsense")[0].startswith("error: no setting")
    assert document()["effective_rank"] == {"phases": 4}, "what is wrong is not written"


def test_a_failed_run_ends_with_1_whatever_was_found(command):
    assert command("scan", "bundled:demo", code=1)[0] == 1


def test_where_and_open(command, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert command("open")[0].startswith("error: there is no page yet")
    write(tmp_path / "results/overview/models.md", "")
    assert command("open")[0] == 0 and opened[0].endswith("/results/overview/models.md")
    write(tmp_path / "results/atlas/index.html", "")
    command("open")
    assert opened[1].endswith("/results/atlas/index.html")
    write(tmp_path / "logs/heavy_tail/demo.log", "reading\nerror: not enough\x1b[2J\n  where: there\n")
    _, out, _ = command("where")
    assert "failed: logs/heavy_tail/demo.log: not enough\\x1b[2J" in out
    assert command("where", "heavy_tail")[1].strip() == "logs/heavy_tail/demo.log"


@pytest.mark.parametrize(
    "given",
    [
        ("scan", "bundled:demo", "--workers", "0"),
        ("scan", "bundled:demo", "--top-issues", "-3"),
        ("compare", "a", "b", "--top-changes", "-1"),
        ("check", "--workers", "-1"),
    ],
)
def test_counts_that_are_none_are_refused(command, given):
    assert "Must be >= " in command(*given)[0]
    assert not Path("weight-atlas.yaml").exists()


def test_thresholds_are_read_before_anything_is_asked_for(command):
    write(Path("thresholds.yaml"), "limits: {effective_rank.kondition: {most: 1}}")
    for given in (("compare", "bundled:demo", "bundled:demo"), ("lineage", "bundled:demo", "x/y")):
        code, _, asked = command(*given, "--thresholds", "thresholds.yaml")
        assert "no metric is called" in code and not asked and not Path("weight-atlas.yaml").exists()
