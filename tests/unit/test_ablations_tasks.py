"""Tasks of one's own: what is wrong with them said in its own words, filters, changed answers, tracked files."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest
import yaml

from weight_atlas.ablations import task_files
from weight_atlas.ablations.encoder import encoder
from weight_atlas.ablations.harness import Harness, evaluate_variants
from weight_atlas.ablations.impact import headlines, impact_table, item_impact
from weight_atlas.ablations.requests import build_requests, chance_levels, check_limit, data_of, fill_requests
from weight_atlas.ablations.tasks import load_tasks
from weight_atlas.ablations.variants import variants_of
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.load import load_model
from weight_atlas.tokens.tokenizer import load_tokenizer

MODEL = Path(__file__).parents[2] / "src/weight_atlas/data/demo/model"
CHOICE = {
    "output_type": "multiple_choice", "test_split": "test", "doc_to_text": "{{q}}", "doc_to_choice": "{{[a, b]}}",
    "doc_to_target": "label", "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}  # fmt: skip
ROWS = [{"q": f"Number {n} is", "a": "a number", "b": "not", "label": n % 2} for n in range(6)]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(MODEL, trust_remote_code=False)


@pytest.fixture(scope="module")
def lm(tokenizer):
    return encoder(Checkpoint.from_folder(MODEL), tokenizer, trust_remote_code=False)


@pytest.fixture(scope="module")
def live():
    return anatomy(load_model(Checkpoint.from_folder(MODEL), trust_remote_code=False, dtype="auto"))


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Write a task of one's own: own(settings, rows) -> its folder."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")

    def write(rows=ROWS, **settings):
        folder, data = tmp_path / "tasks", tmp_path / "mine.jsonl"
        folder.mkdir(exist_ok=True)
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        files = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}}
        (folder / "mine.yaml").write_text(yaml.safe_dump({"task": "mine", **CHOICE, **files, **settings}))
        return folder

    return write


def message(folder, lm=None, **how):
    with pytest.raises(AtlasError) as caught:
        loaded = load_tasks("mine", folders=[folder], **how)
        build_requests(loaded, lm, limit=None, truncate=False, name="mine")
    return str(caught.value)


def test_a_missing_file_is_no_matter_of_the_network(own):
    text = message(own(dataset_kwargs={"data_files": {"test": "/nowhere/items.jsonl"}}))
    assert "a file of task mine is missing: Unable to find '/nowhere/items.jsonl'" in text and "network" not in text
    text = message(own(dataset_path="./nowhere", dataset_kwargs={}))
    assert "a file of task mine is missing" in text and "paths in its definition" in text


def test_a_missing_split_and_a_missing_part_are_named(own, tmp_path):
    text = message(own(test_split="held_out"))
    assert "has no split 'held_out'" in text and "test_split" in text
    pd.DataFrame(ROWS).to_json(tmp_path / "plain.jsonl", orient="records", lines=True)
    text = message(own(dataset_path=str(tmp_path / "tasks/data"), dataset_name="other", dataset_kwargs={}))
    (tmp_path / "tasks/data").mkdir()
    (tmp_path / "tasks/data/test.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    text = message(own(dataset_path=str(tmp_path / "tasks/data"), dataset_name="other", dataset_kwargs={}))
    assert "no such part: BuilderConfig 'other' not found" in text and "README.md" in text


def test_broken_yaml_is_not_an_unknown_task(own):
    folder = own()
    (folder / "mine.yaml").write_text("task: mine\ndoc_to_text: {{q}\n  - wrong")
    text = message(folder)
    assert "the definition of task mine cannot be read" in text and "mine.yaml" in text and "mend the YAML" in text
    own()
    (folder / "other.yaml").write_text("{{")
    with pytest.raises(AtlasError, match="no task 'mien'"):
        load_tasks("mien", folders=[folder])
    (folder / "mine.yaml").write_text("include: gone.yaml\ntask: mine\n")
    assert "cannot be read" in message(folder) and "gone.yaml" in message(folder)


def test_bad_data_and_bad_templates_are_told_apart(own, lm, tmp_path):
    own()
    (tmp_path / "bad.jsonl").write_text('{"q": \n')
    text = message(own(dataset_kwargs={"data_files": {"test": str(tmp_path / "bad.jsonl")}}))
    assert "cannot be read" in text and "files are whole" in text
    for template in ("{{q", "{{gone.x}}"):
        text = message(own(doc_to_text=template), lm)
        assert "a template of task mine does not work" in text and "doc_to_text" in text
    text = message(own(nonsense=3), lm)
    assert "task mine does not work: TypeError" in text and "nonsense" in text


def test_too_few_examples_and_too_few_documents(own, lm):
    text = message(own(fewshot_split="test"), lm, fewshot=60)
    assert (
        "task mine has 5 documents to take 60 worked examples from" in text
        and "`fewshot` of this task to 5 or less" in text
    )
    folder = own(fewshot_split="test")
    loaded = load_tasks("mine", folders=[folder], fewshot=2)
    requests = build_requests(loaded, lm, limit=None, truncate=False, name="mine")
    assert requests.arguments.map(lambda text: json.loads(text)[0].count("Number")).eq(3).all()
    text = message(own(process_docs=None, doc_to_choice="{{gone}}"), lm)
    assert "task mine" in text


@pytest.mark.parametrize("limit", [1.5, 0, -1, 2.25])
def test_limits_that_are_neither_a_number_nor_a_share_are_refused(own, lm, limit):
    with pytest.raises(AtlasError, match="neither a number of documents nor a share"):
        build_requests(load_tasks("mine", folders=[own()]), lm, limit=limit, truncate=False, name="mine")
    for fine in (None, 1, 3.0, 0.5):
        check_limit(fine, "mine")


@pytest.mark.parametrize(
    "change", [{"label": 1}, {"q": "Another is"}, {"b": "never"}], ids=["answer", "question", "choices"]
)
def test_requests_of_other_questions_or_answers_are_refused(own, lm, live, tokenizer, change):
    requests = build_requests(load_tasks("mine", folders=[own()]), lm, limit=None, truncate=False, name="mine")
    fill_requests(load_tasks("mine", folders=[own()]), requests, Harness(live, tokenizer), limit=None)
    now = load_tasks("mine", folders=[own([{**ROWS[0], **change}, *ROWS[1:]])])
    with pytest.raises(AtlasError, match="has changed since its requests were made: 1 documents differ") as caught:
        fill_requests(now, requests, Harness(live, tokenizer), limit=None)
    assert "--forcerun task_requests" in caught.value.remedy


def test_repeated_requests_stay_repeated(own, lm, live, tokenizer):
    folder = own(repeats=3)
    requests = build_requests(load_tasks("mine", folders=[folder]), lm, limit=None, truncate=False, name="mine")
    loaded = load_tasks("mine", folders=[folder])
    fill_requests(loaded, requests, Harness(live, tokenizer), limit=None)
    assert {instance.repeats for instance in loaded["tasks"]["mine"].instances} == {3} == set(requests.repeats)


def test_the_answer_counts_also_where_the_definition_makes_it(own, lm, live, tokenizer):
    requests = build_requests(load_tasks("mine", folders=[own()]), lm, limit=None, truncate=False, name="mine")
    now = load_tasks("mine", folders=[own(doc_to_target="{{1 - label}}")])
    with pytest.raises(AtlasError, match="6 documents differ"):
        fill_requests(now, requests, Harness(live, tokenizer), limit=None)


def test_the_data_is_described(own, lm):
    loaded = load_tasks("mine", folders=[own()])
    requests = build_requests(loaded, lm, limit=None, truncate=False, name="mine")
    (about,) = data_of(loaded, requests).values()
    assert about["dataset"] == "json" and about["revisions"] == [] and len(about["documents"]) == 64
    other = load_tasks("mine", folders=[own(ROWS[:5])])
    requests = build_requests(other, lm, limit=None, truncate=False, name="mine")
    assert data_of(other, requests)["mine"]["documents"] != about["documents"]
    source = f"hf://datasets/a/b@{'0123456789' * 4}/test.parquet"
    other["tasks"]["mine"].dataset["test"].info.download_checksums = {source: {}}
    assert data_of(other, requests)["mine"]["revisions"] == ["0123456789" * 4]


def test_chance_of_mutual_information_counts_each_choice_once(own, lm):
    metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_mutual_info")]
    loaded = load_tasks("mine", folders=[own(metric_list=metrics)])
    requests = build_requests(loaded, lm, limit=None, truncate=False, name="mine")
    assert len(requests) == 4 * len(ROWS) and chance_levels(loaded, requests) == {"mine": 0.5}


def test_the_context_is_exactly_filled_or_too_short(own, lm):
    """A context of n tokens takes n of a choice's question and answer and one more: the last is predicted, not read."""
    loaded = load_tasks("mine", folders=[own(ROWS[:1])])
    table = build_requests(loaded, lm, limit=None, truncate=False, name="mine")
    needed = max(len(row.context_ids) + len(row.continuation_ids) - 1 for row in table.itertuples())

    class Short:
        max_length = needed
        tok_encode, _encode_pair = lm.tok_encode, lm._encode_pair

    build_requests(loaded, Short, limit=None, truncate=False, name="mine")
    Short.max_length = needed - 1
    with pytest.raises(AtlasError, match=f"up to {needed} tokens, of {needed - 1}"):
        build_requests(loaded, Short, limit=None, truncate=False, name="mine")


GENERATION = {
    "output_type": "generate_until", "doc_to_text": "{{q}}", "doc_to_target": "{{a}}",
    "generation_kwargs": {"until": ["\n"], "max_gen_toks": 3, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    "filter_list": [
        {"name": name, "filter": [{"function": "regex", "regex_pattern": pattern}, {"function": "take_first"}]}
        for name, pattern in (("strict-match", "never (x)"), ("flexible-extract", r"(\S+)"))
    ],
}  # fmt: skip


def test_a_generation_with_two_filters_speaks_by_the_first(own, lm, live, tokenizer):
    rows = [{"q": "the value of the", "a": "[invalid]"}, {"q": "as well", "a": "as"}]
    folder = own(rows, doc_to_choice=None, **GENERATION)
    loaded = load_tasks("mine", folders=[folder])
    requests = build_requests(loaded, lm, limit=None, truncate=False, name="mine")
    harness = Harness(live, tokenizer)
    fill_requests(loaded, requests, harness, limit=None)
    unchanged = variants_of("baseline", {}, live, [])
    record, items = evaluate_variants(live, harness, loaded, unchanged, limit=None)
    results = record["variants"][0]["results"]["mine"]
    assert set(results) == {"exact_match,strict-match", "exact_match,flexible-extract"}
    both = item_impact("mine", items, items, {"mine": 0.0}, resamples=100, seed=0)
    assert both["filter"].tolist() == ["strict-match", "flexible-extract"]
    table = impact_table([both], "baseline", record["variants"])
    (row,) = headlines(table).to_dict("records")
    assert row["filter"] == "strict-match" and row["value"] == results["exact_match,strict-match"] == 0.5


@pytest.mark.parametrize("kind", ["multiple_choice", "generate_until"])
def test_scores_of_infinite_weights_are_no_scores(own, lm, live, tokenizer, capsys, kind):
    rows = [{**row, "a": "as"} for row in ROWS[:2]]
    folder = own(rows, **(GENERATION | {"doc_to_choice": None} if kind == "generate_until" else {}))
    loaded = load_tasks("mine", folders=[folder])
    requests = build_requests(loaded, lm, limit=None, truncate=False, name="mine")
    harness = Harness(live, tokenizer)
    fill_requests(loaded, requests, harness, limit=None)
    expansion = variants_of("s", {"scale": {"factors": [float("inf"), 1]}}, live, [Coordinate(1, 7, 11)])
    record, items = evaluate_variants(live, harness, loaded, expansion, limit=None)
    assert (
        items[items.variant == "s: x inf"].value.isna().all() and items[items.variant == "s: x 1"].value.notna().all()
    )
    infinite, one = (variant["results"]["mine"] for variant in record["variants"])
    assert all(pd.isna(value) for value in infinite.values()) and all(pd.notna(value) for value in one.values())
    assert capsys.readouterr().out.count("not finite") == 1
    live.projections[0].matrix()[0, 0], stored = float("nan"), live.projections[0].matrix()[0, 0].clone()
    with pytest.raises(AtlasError, match="not finite"):
        evaluate_variants(live, harness, loaded, variants_of("baseline", {}, live, []), limit=None)
    live.projections[0].matrix()[0, 0] = stored


@pytest.fixture
def state(own, tmp_path):
    task_files.task_state.cache_clear()

    def now(mirror=None):
        task_files.task_state.cache_clear()
        return task_files.task_state(str(tmp_path / "tasks"), mirror)

    return now


def touched(path, text):
    """Write a file with the same size and an older time, as a replacement by another version may have."""
    path.write_text(text)
    os.utime(path, (1, 1))


def test_whatever_a_task_is_made_of_shows_in_its_state(own, state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "set").mkdir(parents=True)
    folder = own(include="../elsewhere/base.yaml", dataset_kwargs={"data_files": {"test": "elsewhere/items-*.jsonl"}})
    files = [elsewhere / "base.yaml", elsewhere / "items-1.jsonl", folder / "mine.yaml", folder / "own.py"]
    for path in files[:2] + files[3:]:
        path.write_text("# one")
    (folder / "mine.yaml").write_text((folder / "mine.yaml").read_text() + "process_docs: !function own.f\n")
    seen = {state()}
    for path in files:
        touched(path, path.read_text())
        seen.add(state())
    assert len(seen) == 5 and state() == state()
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/own.pyc").write_text("")
    (tmp_path / "unrelated.jsonl").write_text("")
    assert state() in seen
    own(dataset_path="elsewhere/set", dataset_kwargs={})
    first = state()
    (elsewhere / "set/test.jsonl").write_text("{}")
    second = state()
    (folder / "broken.yaml").write_text("include: {{")
    assert len({first, second, state()}) == 3


def test_definitions_that_include_each_other_have_a_state(own, state, tmp_path):
    folder = own(include="../other.yaml")
    (tmp_path / "other.yaml").write_text("include: own/mine.yaml")
    before = state()
    touched(tmp_path / "other.yaml", f"include: {folder.name}/mine.yaml  # once more")
    assert before != state()


def test_a_mirror_and_what_is_relative_to_it_show_in_the_state(own, state, tmp_path):
    own(dataset_kwargs={"data_files": {"test": "beside.jsonl"}})
    mirror = tmp_path / "mirror"
    (mirror / "a/b").mkdir(parents=True)
    seen = {state(str(mirror))}
    for name in ("a/b/test.parquet", "beside.jsonl"):
        (mirror / name).write_text("x")
        seen.add(state(str(mirror)))
    assert len(seen) == 3
    task_files.task_state.cache_clear()
    assert task_files.task_state(None, None) is None
    assert task_files.task_state(None, str(mirror)) != task_files.task_state(None, str(tmp_path / "nowhere"))
