"""The items of the bundled tasks: right answers right, wrong ones wrong, and the same every time."""

import numpy as np
import pandas as pd
import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.evaluation.bundled import bundled_items, order_items, phrase_items, phrases


def paragraph(number, words=40):
    rng = np.random.default_rng(number)
    return " ".join(f"w{word}" for word in rng.integers(0, 500, words))


@pytest.fixture
def corpus():
    texts = ["\n\n".join([paragraph(100 * d + i) + " as well as others here" for i in range(6)]) for d in range(4)]
    return pd.DataFrame({"document": [f"d{i}" for i in range(4)], "text": texts, "group": ""})


def test_order_has_the_true_words_once_and_shuffles_of_them():
    paragraphs = [paragraph(i) for i in range(50)]
    items = order_items(paragraphs, items=30, seed=3)
    assert len(items) == 30
    for text, item in zip(paragraphs, items.itertuples(), strict=False):
        true = item.choices[item.label]
        assert text.startswith(f"{item.context} {true}")
        assert len(set(item.choices)) == 4
        assert {tuple(sorted(choice.split())) for choice in item.choices} == {tuple(sorted(true.split()))}
    assert set(items.label) == {0, 1, 2, 3}


def test_order_leaves_out_what_has_too_few_shuffles():
    assert order_items(["same " * 40], items=5, seed=0).empty


def test_phrases_are_frequent_and_nearly_certain():
    often = "\n\n".join(["in terms of it"] * 8)
    texts = [often, often, often + "\n\n" + "\n\n".join(["in terms from it"] * 5), "on the one", "see part 3 here"]
    table = phrases(pd.DataFrame({"document": list("abcde"), "text": texts}))
    assert table[("in", "terms")] == "of"
    assert ("on", "the") not in table
    assert ("see", "part") not in table
    only_once = pd.DataFrame({"document": ["a"], "text": [often * 3]})
    assert ("in", "terms") not in phrases(only_once), "one document can say anything often"


def test_phrase_items_end_before_the_answer_and_spread_over_answers():
    fixed = {("as", "well"): "as", ("number", "of"): "items"}
    texts = [f"{paragraph(i)} as well as it" for i in range(30)] + [
        f"{paragraph(i)} number of items" for i in range(30)
    ]
    items = phrase_items(texts, fixed, items=40, seed=0)
    assert (items.answer.value_counts() <= 4).all() and set(items.answer) == {"as", "items"}
    assert items.context.str.endswith(("as well", "number of")).all()


def test_all_tasks_are_the_same_every_time_and_never_more_than_asked(corpus):
    first, second = (bundled_items(corpus, items=9, seed=1) for _ in range(2))
    # All three phrases of the text have answers of their own, and each may be the answer once.
    assert {name: len(table) for name, table in first.items()} == {"order": 9, "documents": 9, "phrase": 3}
    assert first["phrase"].answer.is_unique
    for name in first:
        pd.testing.assert_frame_equal(first[name], second[name])
    assert not first["documents"].equals(bundled_items(corpus, items=9, seed=2)["documents"])


def test_a_corpus_too_small_for_a_task_is_named():
    with pytest.raises(AtlasError, match="no paragraph for the bundled task order"):
        bundled_items(pd.DataFrame({"document": ["a"], "text": ["too short"]}), items=5, seed=0)


def test_blank_lines_may_hold_spaces_and_large_corpora_are_read_in_part(corpus, monkeypatch):
    from weight_atlas.evaluation import bundled

    spaced = corpus.assign(text=corpus.text.str.replace("\n\n", " \n \n "))
    assert bundled_items(spaced, items=9, seed=1)["order"].equals(bundled_items(corpus, items=9, seed=1)["order"])
    monkeypatch.setattr(bundled, "PHRASE_DOCUMENTS", 1)
    monkeypatch.setattr(bundled, "CHARACTERS", len(corpus.text[0]) + 1)
    pages = bundled_items(corpus, items=99, seed=1)["documents"].page
    assert all(page in corpus.text[0] + corpus.text[1] for page in pages) and len(pages) == 12


def test_bounds_of_paragraphs_and_phrases(corpus):
    texts = [" ".join(f"p{words}x{place}" for place in range(words)) for words in (29, 30, 110, 111)]
    more = pd.DataFrame({"document": ["e"], "text": ["\n\n".join(texts)], "group": ""})
    pages = set(bundled_items(pd.concat([corpus, more]), items=99, seed=0)["documents"].page)
    assert [text in pages for text in texts] == [False, True, True, False]
    # Seen ten times in three documents: eight of ten are enough, seven are not.
    often = [" ".join(["in terms of it"] * 4 + ["on behalf of it"] * 4)] * 2
    last = "in terms from it, in terms by it, on behalf from it, on behalf by it, on behalf to it"
    table = phrases(pd.DataFrame({"document": list("abc"), "text": [*often, last]}))
    assert table[("in", "terms")] == "of" and ("on", "behalf") not in table
    # A phrase too near to a paragraph's beginning has no context.
    early = [f"as well as {paragraph(1)}", f"{paragraph(2, 9)} as well as {paragraph(3)}"]
    late = [f"{paragraph(4, 10)} as well as {paragraph(5)}"]
    fixed = {("as", "well"): "as"}
    assert phrase_items(early, fixed, items=9, seed=0).empty and len(phrase_items(late, fixed, items=9, seed=0)) == 1
