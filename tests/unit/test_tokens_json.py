"""Corpora of .json files, which hold JSON lines, an array of objects, or one object."""

import json

import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.settings.corpora import Corpus
from weight_atlas.tokens.corpora import part_documents, read_corpus
from weight_atlas.tokens.parts import Share
from weight_atlas.tokens.progress import Progress

ROWS = [{"text": "eins\r\nzwei [", "lang": "de"}, {"text": "", "lang": "de"}, {"text": "un {", "lang": "fr"}]
LAID_OUT = {
    "lines": "\n\n".join(map(json.dumps, ROWS)) + "\n",
    "marked lines": "\ufeff\n" + "\r\n".join(map(json.dumps, ROWS)),
    "array": json.dumps(ROWS),
    "marked array": "\ufeff" + json.dumps(ROWS, indent=2),
    "array of a line each": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
}


@pytest.mark.parametrize("content", LAID_OUT.values(), ids=LAID_OUT)
def test_objects_are_documents_however_they_are_laid_out(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_text(content, encoding="utf-8", newline="")
    found = read_corpus(str(path), group_column="lang")
    assert found[["text", "group"]].to_numpy().tolist() == [["eins\r\nzwei [", "de"], ["un {", "fr"]]
    assert read_corpus(str(path), keep={"lang": ["fr"]}).text.tolist() == ["un {"]
    for of in (1, 2, 5):
        shares = [Share(str(path), number, of) for number in range(of)]
        batches = [part_documents([share], Corpus(source=str(path)), Progress()) for share in shares]
        assert sorted(text for part in batches for batch in part for text in batch.texts) == sorted(found.text)


@pytest.mark.parametrize("name", ["x.txt", "x.json"])
def test_what_is_read_in_parts_is_whole(tmp_path, name):
    text = "".join(f"{number} é\n" for number in range(300_000))  # megabytes, whose parts end within characters
    content = text if name == "x.txt" else json.dumps([{"text": text}], ensure_ascii=False)
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert read_corpus(str(tmp_path / name)).text.tolist() == [text]


def test_one_object_is_one_document(tmp_path):
    for number, indent in enumerate((None, 2)):
        (tmp_path / f"{number}.json").write_text(json.dumps({"text": "all", "n": 1}, indent=indent))
    assert read_corpus(str(tmp_path / "*.json")).text.tolist() == ["all", "all"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"(?s)not valid JSON.*x\.json.*one JSON object a line"),
        (b'["a", "b"]', r"(?s)not a JSON object.*x\.json, row 1"),
        (b'"a"', r"(?s)not a JSON object.*row 1"),
        (b'{"text": "a"}\n{"text": \n', r"(?s)not valid JSON.*line 2"),
        (b'{"text": \n{"text": "a"}\n', r"(?s)not valid JSON.*x\.json"),
        (b"[" * 100_000, r"(?s)not valid JSON.*x\.json"),
        (b'[{"body": "a"}]', r"(?s)no column 'text'.*columns there are: body"),
        (b'[{"text": "\xe9"}]', r"(?s)not UTF-8: byte 0xe9 at 11.*x\.json"),
    ],
)
def test_what_is_no_json_of_documents_is_said(tmp_path, content, said):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(AtlasError, match=said):
        read_corpus(str(tmp_path / "x.json"))


def test_an_array_is_read_as_far_as_memory_may_go(tmp_path, monkeypatch):
    (tmp_path / "x.json").write_text("[\n" + " " * 99 + "]")
    monkeypatch.setattr("weight_atlas.tokens.files.MOST_AT_ONCE", 99)
    with pytest.raises(AtlasError, match="one value of more than 99 bytes"):
        read_corpus(str(tmp_path / "x.json"))


def test_files_of_a_folder_that_end_with_json_are_named_one_by_one(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(ROWS))
    with pytest.raises(AtlasError, match=r"(?s)no file of the corpus.*end with \.json by a pattern"):
        read_corpus(str(tmp_path))
    (tmp_path / "x.txt").write_text("text")
    assert read_corpus(str(tmp_path)).document.tolist() == ["x.txt"]
    with pytest.raises(AtlasError, match=r"(?s)no file of the corpus.*command or workflow runs in"):
        read_corpus(str(tmp_path / "y.json"))
