"""Errors of libraries that load tasks, told apart by their types, and loading without a network."""

import json
from pathlib import Path

import pytest

from weight_atlas.ablations.task_errors import explained
from weight_atlas.ablations.tasks import load_tasks


def test_local_data_is_loaded_without_a_word_to_the_network(tmp_path, monkeypatch):
    data, asked = tmp_path / "order.jsonl", []
    data.write_text(json.dumps({"context": "a b", "choices": ["c", "d"], "label": 0}) + "\n")

    def refuse(host, *rest, **more):
        asked.append(host)
        raise OSError("no network")

    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("datasets.config.HF_UPDATE_DOWNLOAD_COUNTS", True)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    definition = Path(__file__).parents[2] / "src/weight_atlas/data/demo/tasks/order.yaml"
    assert list(load_tasks("order", definition=definition, data=data)["tasks"]) == ["order"]
    assert asked == []


def test_a_perplexity_beyond_the_largest_number_is_infinite(tmp_path):
    data = tmp_path / "documents.jsonl"
    data.write_text(json.dumps({"page": "河流经过一座小城"}) + "\n")
    definition = Path(__file__).parents[2] / "src/weight_atlas/data/demo/tasks/documents.yaml"
    (task,) = load_tasks("documents", definition=definition, data=data)["tasks"].values()
    perplexity = task.aggregation()["word_perplexity"]
    assert perplexity([(-700.0, 1), (-800.0, 1)]) == float("inf")
    assert perplexity([(-3.0, 1), (-5.0, 3)]) == pytest.approx(2.718281828459045**2)


class GatedRepoError(Exception):
    pass


class OfflineModeIsEnabled(ConnectionError):
    pass


def raised(error, behind=None):
    try:
        if behind is None:
            raise error
        raise error from behind
    except Exception as caught:
        return caught


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (raised(ValueError("failed"), GatedRepoError("403")), "is gated"),
        (raised(RuntimeError("Dataset 'a/b' is a gated dataset on the Hub. Visit")), "is gated"),
        (raised(ValueError("errors were propagated")), "does not work: ValueError: errors were propagated"),
        (raised(ValueError("an aggregated, investigated error")), "does not work"),
        (raised(ValueError("x"), OfflineModeIsEnabled("offline")), "cannot be reached"),
        (raised(TimeoutError("slow")), "cannot be reached"),
        (raised(KeyError("test")), "does not work: KeyError"),
        (raised(ModuleNotFoundError("No module named 'antlr4'", name="antlr4")), "install antlr4"),
    ],
)
def test_errors_are_told_apart_by_their_types(error, said):
    assert said in str(explained("mine", error))
