"""The harness on a live model: scores, shared requests, and what goes wrong with tasks."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from weight_atlas.ablations import harness
from weight_atlas.ablations.bundled import bundled_items
from weight_atlas.ablations.encoder import encoder
from weight_atlas.ablations.harness import Harness, evaluate_variants
from weight_atlas.ablations.requests import build_requests, chance_levels, fill_requests
from weight_atlas.ablations.tasks import load_tasks
from weight_atlas.ablations.variants import Expansion, variants_of
from weight_atlas.artifacts import read_table, write_table
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.live.load import load_model
from weight_atlas.tokens.tokenizer import load_tokenizer

ROOT = Path(__file__).parents[2]
DEFINITIONS = ROOT / "src/weight_atlas/data/demo/tasks"
SUPER_WEIGHT = Coordinate(1, 7, 11)


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.from_folder(ROOT / "src/weight_atlas/data/demo/model")


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    return load_tokenizer(checkpoint.folder, trust_remote_code=False)


@pytest.fixture(scope="module")
def live(checkpoint):
    return anatomy(load_model(checkpoint, trust_remote_code=False, dtype="auto"))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    captions = sorted((ROOT / "report").glob("*.rst"))[:12]
    paragraphs = [f"{' '.join(path.read_text().split()[:100])} as well as" for path in captions]
    texts = ["\n\n".join(paragraphs[start::3]) for start in range(3)]
    corpus = pd.DataFrame({"document": ["a", "b", "c"], "text": texts})
    for name, table in bundled_items(corpus, items=4, seed=0).items():
        write_table(folder / f"{name}.jsonl", table)
    return folder


def load(task, data):
    return load_tasks(task, definition=DEFINITIONS / f"{task}.yaml", data=data / f"{task}.jsonl")


def prepared(task, data, checkpoint, live, tokenizer, tmp_path):
    """As the steps do it: requests from one process through a file to another."""
    built = build_requests(
        load(task, data), encoder(checkpoint, tokenizer, trust_remote_code=False), limit=None, truncate=False, name=task
    )
    write_table(tmp_path / "requests.parquet", built)
    loaded, lm = load(task, data), Harness(live, tokenizer, batch_size=2)
    fill_requests(loaded, read_table(tmp_path / "requests.parquet"), lm, limit=None)
    return loaded, lm


def test_equal_changes_are_evaluated_once(data, checkpoint, live, tokenizer, tmp_path, monkeypatch):
    loaded, lm = prepared("order", data, checkpoint, live, tokenizer, tmp_path)
    expansion = variants_of("sw", {"zero": {}, "each": {}}, live, [Coordinate(1, 7, 11)])
    made = []
    once = harness.evaluate_once
    monkeypatch.setattr(harness, "evaluate_once", lambda *given, **named: made.append(1) or once(*given, **named))
    record, items = evaluate_variants(live, lm, loaded, expansion, limit=None)
    together, alone = record["variants"]
    assert made == [1] and together["results"] == alone["results"]
    assert [each["kind"] for each in record["variants"]] == ["zero", "each"]
    values = [part["value"].tolist() for _, part in items.groupby("variant", sort=False)]
    assert len(values) == 2 and values[0] == values[1]


@pytest.mark.parametrize("task", ["order", "documents", "phrase"])
def test_scores_are_those_of_the_harness_and_come_back_after_an_edit(
    task, data, checkpoint, live, tokenizer, tmp_path, monkeypatch
):
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    loaded, lm = prepared(task, data, checkpoint, live, tokenizer, tmp_path)
    changes = [Coordinate(1, 7, 11)]
    unchanged, zeroed = (variants_of(name, {"zero": {}}, live, changes).variants[0] for name in ("baseline", "sw"))
    expansion = Expansion([unchanged, zeroed, replace(unchanged, name="like it")], [])

    def never(*_, **__):
        raise AssertionError("tokenized again")

    if task != "phrase":  # generation pads whole batches of texts together
        monkeypatch.setattr(tokenizer.__class__, "encode", never)
    record, items = evaluate_variants(live, lm, loaded, expansion, limit=None)
    records = record["variants"]
    again, _ = evaluate_variants(live, lm, loaded, Expansion([unchanged], []), limit=None)
    assert again["variants"][0]["results"] == records[0]["results"]
    monkeypatch.undo()
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda results: None)  # takes seconds
    empty = TaskManager(include_defaults=False)
    assert records[0]["results"] == records[2]["results"] != records[1]["results"]
    plain = HFLM(pretrained=live.model, tokenizer=tokenizer, batch_size=2)
    tasks = list(load(task, data)["tasks"].values())
    expected = simple_evaluate(model=plain, tasks=tasks, bootstrap_iters=0, task_manager=empty)
    for key, value in records[0]["results"][task].items():
        assert value == expected["results"][task][key]
    assert json.loads(json.dumps(records)) == records
    assert len(items) == sum(record["documents"][task] for record in records) * items.metric.nunique()


def test_items_give_the_scores(data, checkpoint, live, tokenizer, tmp_path):
    loaded, lm = prepared("order", data, checkpoint, live, tokenizer, tmp_path)
    record, items = evaluate_variants(live, lm, loaded, variants_of("baseline", {}, live, []), limit=None)
    records = record["variants"]
    own = items[items.metric == "acc_norm"]
    assert own.value.mean() == records[0]["results"]["order"]["acc_norm,none"]
    assert own.doc_id.tolist() == [0, 1, 2, 3] and (own.weight == 1).all()
    assert evaluate_variants(live, lm, loaded, Expansion([], []), limit=None)[1].empty


def test_perplexity_items_carry_their_words(data, checkpoint, live, tokenizer, tmp_path):
    import numpy as np

    loaded, lm = prepared("documents", data, checkpoint, live, tokenizer, tmp_path)
    record, items = evaluate_variants(live, lm, loaded, variants_of("baseline", {}, live, []), limit=None)
    records = record["variants"]
    own = items[items.metric == "word_perplexity"]
    pages = [json.loads(line)["page"] for line in (data / "documents.jsonl").read_text().splitlines()]
    assert own.weight.tolist() == [len(page.split()) for page in pages]
    expected = np.exp(-own.value.sum() / own.weight.sum())
    assert records[0]["results"]["documents"]["word_perplexity,none"] == pytest.approx(expected, rel=1e-12)


def test_chance_is_one_in_the_choices(data, checkpoint, tokenizer):
    lm = encoder(checkpoint, tokenizer, trust_remote_code=False)
    for task, expected in (("order", 0.25), ("phrase", 0.0), ("documents", 0.0)):
        loaded = load(task, data)
        requests = build_requests(loaded, lm, limit=None, truncate=False, name=task)
        assert chance_levels(loaded, requests) == {task: expected}


def test_a_limit_takes_the_first_documents_or_a_share(data, checkpoint, tokenizer):
    lm = encoder(checkpoint, tokenizer, trust_remote_code=False)
    for limit, documents in ((3, 3), (0.5, 2), (100, 4)):
        requests = build_requests(load("order", data), lm, limit=limit, truncate=False, name="order")
        assert requests.doc_id.nunique() == documents


def test_requests_of_other_documents_are_refused(data, checkpoint, live, tokenizer):
    lm = encoder(checkpoint, tokenizer, trust_remote_code=False)
    requests = build_requests(load("order", data), lm, limit=2, truncate=False, name="order")
    with pytest.raises(AtlasError, match="has changed since its requests were made: 2 documents differ"):
        fill_requests(load("order", data), requests, Harness(live, tokenizer), limit=None)


@pytest.fixture
def folder(tmp_path):
    """A folder of definitions of one's own: a task on a data set of the hub, and a group of two."""
    (tmp_path / "tasks").mkdir()
    task = {
        "dataset_path": "somebody/questions", "output_type": "multiple_choice", "test_split": "test",
        "doc_to_text": "{{q}}", "doc_to_choice": "{{[a, b]}}", "doc_to_target": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }  # fmt: skip
    group = {"group": "both", "task": ["first", "second"], "aggregate_metric_list": [{"metric": "acc"}]}
    for name, content in {
        "first": {"task": "first", **task},
        "second": {"task": "second", **task},
        "both": group,
    }.items():
        (tmp_path / f"tasks/{name}.yaml").write_text(yaml.safe_dump(content))
    return tmp_path / "tasks"


@pytest.fixture
def mirror(tmp_path):
    place = tmp_path / "mirror/somebody/questions/data"
    place.mkdir(parents=True)
    rows = pd.DataFrame({"q": ["The cat sat on the", "It is a"] * 3, "a": ["mat"] * 6, "b": ["word " * 20] * 6})
    rows.to_parquet(place / "test-00000-of-00001.parquet")
    return tmp_path / "mirror"


def test_a_mirror_stands_in_for_the_hub_also_for_groups(
    folder, mirror, checkpoint, live, tokenizer, monkeypatch, tmp_path
):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    loaded = load_tasks("both", folders=[folder], mirror=mirror)
    assert set(loaded["tasks"]) == {"first", "second"}
    requests = build_requests(
        loaded, encoder(checkpoint, tokenizer, trust_remote_code=False), limit=None, truncate=False, name="both"
    )
    assert len(requests) == 24
    lm = Harness(live, tokenizer)
    fill_requests(loaded, requests, lm, limit=None)
    outcome, items = evaluate_variants(live, lm, loaded, variants_of("baseline", {}, live, []), limit=None)
    (record,) = outcome["variants"]
    assert record["groups"]["both"]["acc,none"] == pytest.approx(items.value.mean())
    assert set(record["results"]) == {"first", "second"}


def test_unknown_names_are_answered_with_near_ones(folder):
    with pytest.raises(AtlasError, match="no task 'fisrt'") as caught:
        load_tasks("fisrt", folders=[folder])
    assert "did you mean first" in caught.value.remedy
    with pytest.raises(AtlasError, match="does not exist"):
        load_tasks("first", folders=[folder / "elsewhere"])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("Couldn't reach 'somebody/questions' on the Hub"), "cannot be reached"),
        (RuntimeError("Dataset 'somebody/questions' is a gated dataset on the Hub."), "is gated"),
        (ModuleNotFoundError("No module named 'antlr4'", name="antlr4"), "needs the Python package antlr4"),
    ],
)
def test_data_out_of_reach_is_told_apart(folder, monkeypatch, error, message):
    import datasets

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(AtlasError, match=message):
        load_tasks("first", folders=[folder])


def test_requests_longer_than_the_context_are_an_error_unless_cut(tmp_path, checkpoint, tokenizer):
    rows = pd.DataFrame({"context": ["word " * 600, "short one"], "choices": [["a", "b"]] * 2, "label": [0, 1]})
    write_table(tmp_path / "order.jsonl", rows)
    lm = encoder(checkpoint, tokenizer, trust_remote_code=False)
    with pytest.raises(AtlasError, match="2 of 4 requests of task order are longer than the model's context") as caught:
        build_requests(load("order", tmp_path), lm, limit=None, truncate=False, name="order")
    assert "truncate: true" in caught.value.remedy
    assert len(build_requests(load("order", tmp_path), lm, limit=None, truncate=True, name="order")) == 4


def test_room_to_generate_counts(tmp_path, checkpoint, tokenizer):
    lm = encoder(checkpoint, tokenizer, trust_remote_code=False)
    most = 512 - len(tokenizer("word")["input_ids"]) + 1
    text = "word" * most
    while len(tokenizer(text)["input_ids"]) > 510:
        text = text[:-4]
    write_table(tmp_path / "phrase.jsonl", pd.DataFrame({"context": [text], "answer": ["a"]}))
    with pytest.raises(AtlasError, match=r"1 of 1 requests .* up to 51[34] tokens, of 512"):
        build_requests(load("phrase", tmp_path), lm, limit=None, truncate=False, name="phrase")


@pytest.mark.parametrize(("flag", "message"), [("UNSAFE_CODE", "runs code"), ("MULTIMODAL", "images or sounds")])
def test_kinds_of_tasks_that_are_not_run(data, checkpoint, tokenizer, flag, message):
    loaded = load("order", data)
    setattr(loaded["tasks"]["order"], flag, True)
    with pytest.raises(AtlasError, match=message):
        build_requests(
            loaded, encoder(checkpoint, tokenizer, trust_remote_code=False), limit=None, truncate=False, name="order"
        )


def test_answers_that_a_task_shuffles_are_the_same_every_time(folder, mirror, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (folder / "shuffling.py").write_text(
        "import random\n"
        "def mixed(docs):\n"
        "    return docs.map(lambda d: {'q': random.random()}, load_from_cache_file=False)\n"
    )
    first = yaml.safe_load((folder / "first.yaml").read_text())
    text = yaml.safe_dump({**first, "task": "mixed"}) + "process_docs: !function shuffling.mixed\n"
    (folder / "mixed.yaml").write_text(text)
    how = {"folders": [folder], "mirror": mirror, "trust_code": True}
    seen = [[document["q"] for document in load_tasks("mixed", **how)["tasks"]["mixed"].eval_docs] for _ in range(2)]
    assert seen[0] == seen[1] and len(set(map(str, seen[0]))) > 1


@pytest.mark.slow
def test_the_harness_names_its_tasks_and_near_ones():
    from lm_eval.tasks import TaskManager

    from weight_atlas.ablations.tasks import definition_folders, own_folders

    for name in ("hellaswag", "arc_easy", "mmlu"):
        folders = definition_folders(name)
        index = TaskManager(include_defaults=False, include_path=[str(f) for f in own_folders(folders)]).task_index
        queue = [name]
        while queue:
            entry = index[queue.pop()]
            members = (entry.cfg or {}).get("task", [])
            queue += [member for member in members if isinstance(member, str)] if isinstance(members, list) else []
            queue += sorted(entry.tags) if entry.kind.name == "TAG" else []
    with pytest.raises(AtlasError, match="no task 'helaswag'") as caught:
        definition_folders("helaswag")
    assert "hellaswag" in caught.value.remedy
