"""Names that sections of the configuration refer to."""

import pytest

from weight_atlas.ablations.choices import bundled_task, known_names
from weight_atlas.errors import AtlasError


def test_names_are_all_or_the_chosen_ones():
    assert known_names(None, {"a": 1, "b": 2}, "here") == ["a", "b"]
    assert known_names(["b"], ["a", "b"], "here") == ["b"]
    assert known_names([], ["a"], "here") == []


def test_a_misspelt_name_is_answered_with_the_nearest():
    with pytest.raises(AtlasError, match="unknown name 'ordr'") as caught:
        known_names(["ordr"], ["order", "phrase"], "here")
    assert caught.value.remedy == "did you mean 'order'?"


def test_bundled_tasks():
    assert bundled_task("bundled:phrase") == "phrase"
    assert bundled_task("hellaswag") is None and bundled_task(None) is None
    with pytest.raises(AtlasError, match="unknown name 'hellaswag'"):
        bundled_task("bundled:hellaswag")
