"""The items of the bundled tasks: right answers right, wrong ones wrong, and the same every time."""

import numpy as np
import pandas as pd
import pytest

from weight_atlas.ablations.bundled import bundled_items, order_items, phrase_items, phrases
from weight_atlas.ablations.passages import LONGEST, SHORTEST, joined, passages, words
from weight_atlas.errors import AtlasError, NotApplicable


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
    from weight_atlas.ablations import bundled

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


# Words, and a fixed phrase of three, in scripts with spaces; characters in scripts without.
SPACED = {
    "Cyrillic": ("река течёт мимо города где люди читают старые книги и пишут письма о дожде", "так же как"),
    "Arabic": ("يجري النهر قرب مدينة صغيرة حيث يقرأ الناس كتبا قديمة ويكتبون رسائل عن المطر", "في كل يوم"),
    "Hindi": ("नदी छोटे शहर के पास बहती है जहाँ लोग पुरानी किताबें पढ़ते और चिट्ठियाँ लिखते हैं", "इस के साथ"),
    "Korean": ("강은 작은 도시 옆을 흐르고 사람들은 오래된 책을 읽고 긴 편지를 쓴다", "그 뿐만 아니라"),
    "Greek": ("το ποτάμι περνά δίπλα από μια πόλη όπου οι άνθρωποι διαβάζουν παλιά βιβλία", "και για αυτό"),
}
UNSPACED = {
    "Chinese": "河流经过一座小城人们在那里读旧书写长信谈论雨和火车",
    "Japanese": "川は小さな町のそばを流れ人々は古い本を読み長い手紙を書く",
    "Thai": "แม่น้ำไหลผ่านเมืองเล็กๆที่ผู้คนอ่านหนังสือเก่าและเขียนจดหมายยาว",
}


def written(pieces, glue, *, paragraphs=40, length=45, phrase=""):
    """Paragraphs of so many pieces drawn at random, each with the phrase near its end."""
    rng = np.random.default_rng(0)
    drawn = [glue.join(rng.choice(pieces, length).tolist()) for _ in range(paragraphs)]
    return "\n\n".join(glue.join([text, phrase] if phrase else [text]) for text in drawn)


def one_file(text):
    return pd.DataFrame({"document": ["prose.txt"], "text": [text], "group": ""})


@pytest.mark.parametrize("script", SPACED)
def test_one_file_in_a_script_with_spaces_makes_every_task(script):
    vocabulary, phrase = SPACED[script]
    made = bundled_items(one_file(written(vocabulary.split(), " ", phrase=phrase)), items=10, seed=0)
    assert [len(made[task]) for task in ("order", "documents")] == [10, 10]
    assert phrase.split()[2] in set(made["phrase"].answer)
    for row in made["order"].itertuples():
        assert {tuple(sorted(choice.split())) for choice in row.choices} == {tuple(sorted(row.choices[0].split()))}


@pytest.mark.parametrize("script", UNSPACED)
def test_one_file_in_a_script_without_spaces_makes_what_it_can(script):
    characters = [word.strip() for word in words(UNSPACED[script])]
    corpus = one_file(written(characters, ""))
    made = bundled_items(corpus, items=10, seed=0, tasks=["order", "documents"])
    assert [len(table) for table in made.values()] == [10, 10]
    for row in made["order"].itertuples():
        assert f"{row.context}{row.choices[row.label]}" in corpus.text[0]
        assert len({tuple(sorted(words(choice)[1:])) for choice in row.choices}) <= 4
        assert len({"".join(sorted(choice)) for choice in row.choices}) == 1
    with pytest.raises(NotApplicable, match="no fixed phrase"):
        bundled_items(corpus, items=10, seed=0, tasks=["phrase"])


def test_a_character_keeps_its_marks_and_other_words_stay_whole():
    assert words("นี้ใช้ Python 3") == [" นี้", "ใ", "ช้", " Python", " 3"]
    assert words("用Python写 代码") == [" 用", "Python", "写", " 代", "码"]
    assert joined(words("用Python写\n代码")) == "用Python写 代码"
    assert [word.strip() for word in words("a\tb  naïve\x1fc")] == ["a", "b", "naïve", "c"]


def test_one_text_file_is_enough_for_every_task():
    paragraph = (
        "When the old mill was sold, the people of the town came together to decide what should be done with it, and "
        "number {n} of the speakers said that the river, not the mill, was what they had all come to depend on."
    )
    text = "\n\n".join(paragraph.format(n=n) for n in range(400))
    made = bundled_items(one_file(text), items=4, seed=0)
    assert {task: len(table) for task, table in made.items()} == {"order": 4, "documents": 4, "phrase": 4}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\n".join(paragraph(i, 6) for i in range(100)), id="a line for each short sentence"),
        pytest.param("\n\n".join(paragraph(i, 6) for i in range(100)), id="short paragraphs, as in a dialogue"),
        pytest.param("\n\n".join(paragraph(i, 400) for i in range(4)), id="long paragraphs on one line"),
        pytest.param(paragraph(0, 5000), id="no line at all"),
        pytest.param("\r\n\r\n".join(paragraph(i, 40) for i in range(20)), id="line ends of Windows"),
        pytest.param(
            "\n\n".join(f"def f{i}(x):\n    y = x + {i}\n\n    return y * {i} - x" for i in range(80)), id="code"
        ),
        pytest.param("河流经过一座小城" * 3 + "。" + "人们在那里读旧书写长信" * 200, id="Chinese without a line"),
    ],
)
def test_any_layout_makes_passages_of_the_right_length(text):
    found = passages([text], wanted=10)
    assert len(found) >= 10 or "人们" in text
    assert found and all(SHORTEST <= len(words(passage)) <= LONGEST for passage in found)
    everything = joined(words(text))
    assert all(joined(words(passage)) in everything for passage in found)
    made = bundled_items(one_file(text), items=10, seed=0, tasks=["order", "documents"])
    assert all(len(table) for table in made.values())


def test_code_keeps_its_indent():
    text = "\n\n".join(f"def f{i}(x):\n    y = x + {i}\n\n    return y * {i} - x" for i in range(80))
    assert all("\n    y = x + " in passage for passage in passages([text], wanted=10))


def test_paragraphs_that_fit_are_not_cut_where_there_are_enough():
    fitting = [paragraph(i, 50) for i in range(10)]
    text = "\n\n".join([*fitting, paragraph(99, 400)])
    assert passages([text], wanted=10) == fitting
    assert len(passages([text], wanted=11)) == 14


def test_only_what_is_asked_for_is_made():
    text = written(list(UNSPACED["Chinese"]), "")
    assert list(bundled_items(one_file(text), items=5, seed=0, tasks=["order"])) == ["order"]


@pytest.mark.parametrize("task", ["order", "documents", "phrase"])
def test_what_a_corpus_does_not_make_does_not_apply(task):
    for text in ("too short", "", "\n\n\n", "7 " * 20):
        with pytest.raises(NotApplicable, match=f"for the bundled task {task}"):
            bundled_items(one_file(text), items=5, seed=0, tasks=[task])
