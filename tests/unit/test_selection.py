"""Which analyses run on which models, and on which corpus."""

import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.workflow.selection import Selection

CONFIG = {
    "models": {"all": {"analyses": None}, "some": {"analyses": ["ranks", "cdf"]}, "none": {"analyses": []}},
    "corpora": {"one": {}, "two": {}},
    "windows": {"corpus": None},
    "routing": {"corpus": "two"},
    "pathvars": {"corpus": "a/folder"},
}
CHOSEN = Selection(CONFIG, ["cdf", "tails", "ranks"])


def test_analyses_of_a_model_are_in_the_order_of_all():
    assert CHOSEN.analyses_of("all") == ["cdf", "tails", "ranks"]
    assert CHOSEN.analyses_of("some") == ["cdf", "ranks"]
    assert CHOSEN.analyses_of("none") == []


def test_recipes_are_an_analysis_where_there_are_some():
    known = ["cdf", "quantization_recipe", "recipe_perplexity"]
    for recipes, expected in (({}, ["cdf"]), ({"four": {}}, known)):
        selection = Selection({**CONFIG, "recipes": recipes}, known)
        assert selection.analyses_of("all") == expected


def test_models_with_an_analysis():
    assert CHOSEN.models_with("ranks") == ["all", "some"]
    assert CHOSEN.models_with("tails") == ["all"]


def test_a_comparison_is_made_where_each_of_its_analyses_has_a_model():
    few = Selection({**CONFIG, "models": {"some": {"analyses": ["cdf"]}}}, ["cdf", "tails"])
    assert few.comparisons(of_cdfs=["cdf"], of_both=["cdf", "tails"]) == ["of_cdfs"]


def test_a_step_works_on_its_sections_corpus_else_on_the_first():
    assert (CHOSEN.corpus_of("windows"), CHOSEN.corpus_of("routing")) == ("one", "two")


def test_an_unknown_corpus_is_an_error_that_says_where():
    with pytest.raises(AtlasError, match="unknown corpus 'tow'") as caught:
        Selection({**CONFIG, "routing": {"corpus": "tow"}}, [])
    assert (caught.value.where, caught.value.remedy) == ("configuration: routing.corpus", "did you mean 'two'?")
