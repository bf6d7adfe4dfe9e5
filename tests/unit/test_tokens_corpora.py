import hashlib
import json
import os

import pandas as pd
import pytest

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.errors import AtlasError
from weight_atlas.settings.corpora import Corpus
from weight_atlas.tokens.corpora import document_batches, read_corpus, write_corpus
from weight_atlas.tokens.sources import hub_dataset, local_files, source_state


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "b.txt").write_text("second text\nwith two lines\n")
    (tmp_path / "a.txt").write_text("first text, with an é")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/c.txt").write_text("third")
    (tmp_path / "notes.md").write_text("not a text of the corpus")
    return tmp_path


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_a_folder_gives_its_texts_sorted(folder):
    corpus = read_corpus(str(folder))
    assert corpus.to_dict("records") == [
        {"document": "a.txt", "text": "first text, with an é", "group": ""},
        {"document": "b.txt", "text": "second text\nwith two lines\n", "group": ""},
        {"document": "deep/c.txt", "text": "third", "group": ""},
    ]


def test_globs_paths_and_repeats(folder):
    corpus = read_corpus([str(folder / "**/c.txt"), str(folder / "*.txt"), str(folder / "a.txt")])
    assert corpus.document.tolist() == ["a.txt", "b.txt", "deep/c.txt"]


def test_a_path_with_brackets_is_a_path(tmp_path):
    (tmp_path / "x[1].txt").write_text("brackets")
    assert read_corpus(str(tmp_path / "x[1].txt")).text.tolist() == ["brackets"]


def test_names_do_not_tell_where_the_corpus_lies(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("elsewhere")
    for path in folder.rglob("*.txt"):
        (other / path.relative_to(folder)).parent.mkdir(exist_ok=True)
        (other / path.relative_to(folder)).write_bytes(path.read_bytes())
    pd.testing.assert_frame_equal(read_corpus(str(folder)), read_corpus(str(other)))


def test_relative_paths_count_from_the_working_folder(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert read_corpus("*.txt").document.tolist() == ["a.txt", "b.txt"]


def test_json_lines(tmp_path):
    path = lines(tmp_path / "x.jsonl", {"body": "one", "lang": "en"}, {"body": "zwei", "lang": None})
    corpus = read_corpus(path, column="body", group_column="lang")
    assert corpus.to_dict("records") == [
        {"document": "x.jsonl:000000001", "text": "one", "group": "en"},
        {"document": "x.jsonl:000000002", "text": "zwei", "group": ""},
    ]


def test_parquet_agrees_with_json_lines(tmp_path):
    rows = pd.DataFrame({"text": [f"text {i}" for i in range(3000)], "year": range(3000), "more": 1.5})
    rows.to_parquet(tmp_path / "x.parquet", row_group_size=700)
    lines(tmp_path / "x.jsonl", *rows.to_dict("records"))
    first, second = (read_corpus(str(tmp_path / f"x.{kind}"), group_column="year") for kind in ("parquet", "jsonl"))
    assert first.text.tolist() == second.text.tolist() == rows.text.tolist()
    assert first.group.tolist() == second.group.tolist() == rows.year.astype(str).tolist()


def test_documents_without_text_are_left_out(tmp_path):
    path = lines(tmp_path / "x.jsonl", {"text": ""}, {"text": " \n"}, {"text": None}, {"text": "kept"})
    assert read_corpus(path).document.tolist() == ["x.jsonl:000000004"]


def test_a_byte_order_mark_is_not_text(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbftext")
    assert read_corpus(str(tmp_path / "x.txt")).text.tolist() == ["text"]


def test_line_ends_stay_as_they_are(tmp_path):
    (tmp_path / "x.txt").write_bytes(b"a\r\nb\n")
    assert read_corpus(str(tmp_path / "x.txt")).text.tolist() == ["a\r\nb\n"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("x.txt", b"", "no text"),
        ("x.txt", b"abc\xff", r"(?s)byte 0xff at 3.*x\.txt"),
        ("x.jsonl", b'{"text": "a"}\n{"text": "\xe9"}\n', r"(?s)byte 0xe9 at 24.*x\.jsonl"),
        ("x.jsonl", b'{"text": "a"}\n{"text": \n', r"(?s)not valid JSON.*line 2"),
        ("x.jsonl", b'["a"]\n', r"(?s)not a JSON object.*line 1"),
        ("x.jsonl", b'{"body": "a", "n": 1}\n', r"(?s)no column 'text'.*columns there are: body, n"),
        ("x.jsonl", b'{"text": 3}\n', r"(?s)'text' holds int.*row 1"),
        ("x.jsonl", b'{"text": "\\ud800"}\n', r"(?s)not valid Unicode.*x\.jsonl:000000001"),
        ("x.parquet", b"PAR1 but not really PAR1", r"(?s)parquet file cannot be read.*x\.parquet"),
        ("x.md", b"a\n", r"(?s)unknown kind.*use one of \.txt, \.jsonl, \.json, \.csv, \.parquet, \.txt\.gz"),
        ("x.csv", b"text\na,b\n", r"(?s)more cells than the 1 columns.*row 1.*into quotes"),
        ("x.csv", b'text\n"a', r"(?s)not valid csv.*line 2"),
        ("x.csv", b"text\na\n\xe9\n", r"(?s)not UTF-8.*x\.csv, row 2.*invalid_utf8"),
        ("x.csv", b"body\na\n", r"(?s)no column 'text'.*columns there are: body"),
    ],
)
def test_bad_files_are_explained(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AtlasError, match=said):
        read_corpus(str(tmp_path / name))


def test_a_wrong_column_of_a_parquet_file_names_those_there_are(tmp_path):
    pd.DataFrame({"body": ["a"], "n": [1]}).to_parquet(tmp_path / "x.parquet")
    with pytest.raises(AtlasError, match=r"no column 'text'.*(?s:.)*columns there are: body, n"):
        read_corpus(str(tmp_path / "x.parquet"))
    with pytest.raises(AtlasError, match="'n' holds int"):
        read_corpus(str(tmp_path / "x.parquet"), column="n")


def test_a_missing_corpus_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("there")
    with pytest.raises(AtlasError, match=r"gone\*\.txt"):
        read_corpus([str(tmp_path / "a.txt"), str(tmp_path / "gone*.txt")])
    with pytest.raises(AtlasError, match="no such bundled corpus"):
        read_corpus("bundled:wikipedia")


def test_description_identifies_the_text(folder, tmp_path_factory):
    table = tmp_path_factory.mktemp("table") / "t.parquet"
    settings = Corpus(source=str(folder))
    described = write_corpus(table, settings, beginning=False)
    joined = "first text, with an é\0second text\nwith two lines\n\0third\0".encode()
    assert described["sha256"] == hashlib.sha256(joined).hexdigest()
    assert (described["documents"], described["bytes"], described["characters"]) == (
        3,
        len(joined) - 3,
        len(joined) - 4,
    )
    assert described["versions"] is None and described["complete"]
    pd.testing.assert_frame_equal(read_table(table), read_corpus(str(folder)))


def test_local_files_and_their_state(folder, monkeypatch):
    assert local_files(str(folder / "*.txt")) == [(folder / name).as_posix() for name in ("a.txt", "b.txt")]
    assert local_files("bundled:python-docs") == local_files("hf:org/name") == local_files(str(folder / "gone")) == []
    before = source_state(str(folder))
    assert before == source_state(str(folder))
    os.utime(folder / "a.txt", (1, 1))
    assert before != source_state(str(folder))
    assert source_state("hf:org/name") == source_state("bundled:wikipedia") == {}
    assert "numpy" in source_state("bundled:python-docs")


def test_a_missing_package_is_no_matter_of_the_workflow(monkeypatch):
    from weight_atlas.tokens import installation

    monkeypatch.setattr(installation, "PACKAGES", ("no-such-package",))
    assert source_state("bundled:python-docs") == {}
    with pytest.raises(AtlasError, match="no-such-package"):
        read_corpus("bundled:python-docs")


@pytest.mark.parametrize(("source", "name"), [("hf:org/name", "org/name"), ("hf://org/name", "org/name"), ("x", None)])
def test_names_of_hub_datasets(source, name):
    assert hub_dataset(source) == name


@pytest.mark.parametrize("source", ["hf:", "hf:a/b/c", "hf:../x", "hf:a/"])
def test_bad_names_of_hub_datasets(source):
    with pytest.raises(AtlasError, match="use hf:org/name"):
        hub_dataset(source)


@pytest.fixture
def stand_in_hub(monkeypatch, tmp_path):
    """Let the datasets library load any data set from a local file, and tell what it was asked for."""
    import datasets

    lines(tmp_path / "hub.jsonl", *({"text": f"text {i}", "lang": "en", "n": i} for i in range(5)))
    asked, load = [], datasets.load_dataset

    def stand_in(*args, split, streaming, **kwargs):
        asked.append((args, split, kwargs))
        data = {split: str(tmp_path / "hub.jsonl")}
        return load("json", data_files=data, split=split, streaming=streaming, cache_dir=str(tmp_path / "cache"))

    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    return asked


def test_a_hub_dataset(stand_in_hub):
    corpus = read_corpus("hf:org/name", name="en", split="validation", group_column="lang", revision="abc")
    assert corpus.text.tolist() == [f"text {i}" for i in range(5)]
    assert set(corpus.group) == {"en"}
    assert stand_in_hub == [(("org/name", "en"), "validation", {"revision": "abc"})]


def test_the_first_rows_of_a_hub_dataset(stand_in_hub):
    assert read_corpus("hf:org/name", limit=2).text.tolist() == ["text 0", "text 1"]


def test_a_wrong_column_of_a_hub_dataset(stand_in_hub):
    with pytest.raises(AtlasError, match="'n' holds int"):
        read_corpus("hf:org/name", column="n")
    with pytest.raises(AtlasError, match="body"):
        read_corpus("hf:org/name", column="body")


def test_a_hub_that_is_not_reachable_is_one_message(monkeypatch, tmp_path):
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(AtlasError, match=r"(?s)cannot be loaded.*org/name, split train.*local files") as caught:
        read_corpus("hf:org/name")
    assert "\n" not in caught.value.what


def test_batches_hold_every_document_once(tmp_path):
    texts = [f"document {i} " * (i % 7 + 1) for i in range(3000)]
    write_table(tmp_path / "c.parquet", pd.DataFrame({"document": range(3000), "text": texts, "group": ""}))
    batches = list(document_batches(tmp_path / "c.parquet", characters=5000))
    assert [text for batch in batches for text in batch.texts] == texts
    assert max(sum(map(len, batch.texts)) for batch in batches) <= 5000
    assert len(batches) < 60
    long = list(document_batches(tmp_path / "c.parquet", characters=1))
    assert [len(batch.texts) for batch in long] == [1] * 3000


ROWS = [
    {"text": "eins, zwei", "lang": "de", "n": 1},
    {"text": 'one\r\n"two"', "lang": "en", "n": 2},
    {"text": "", "lang": "de", "n": 1},
    {"text": "un", "lang": "fr", "n": 1},
    {"text": "drei", "lang": "de", "n": 3},
]


@pytest.fixture
def same_rows(tmp_path):
    """The same documents as JSON lines, csv and parquet."""
    table = pd.DataFrame(ROWS)
    lines(tmp_path / "x.jsonl", *ROWS)
    table.to_csv(tmp_path / "x.csv", index=False)
    table.to_parquet(tmp_path / "x.parquet")
    return {kind: str(tmp_path / f"x.{kind}") for kind in ("jsonl", "csv", "parquet")}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_rows_are_limited_and_kept(same_rows, kind):
    def read(**settings):
        return read_corpus(same_rows[kind], group_column="lang", **settings)

    assert read().text.tolist() == ["eins, zwei", 'one\r\n"two"', "un", "drei"]
    assert read().group.tolist() == ["de", "en", "fr", "de"]
    assert read(limit=3).text.tolist() == ["eins, zwei", 'one\r\n"two"']
    assert read(max_documents=3).text.tolist() == ["eins, zwei", 'one\r\n"two"', "un"]
    assert read(keep={"lang": ["de", "fr"]}, max_documents=2).text.tolist() == ["eins, zwei", "un"]
    assert read(keep={"lang": ["de"], "n": ["3"]}).document.tolist() == [f"x.{kind}:000000005"]
    with pytest.raises(AtlasError, match="no column 'year'"):
        read(keep={"year": ["1"]})
    with pytest.raises(AtlasError, match="no text"):
        read(keep={"lang": ["it"]})


def test_a_limit_counts_over_all_files(tmp_path):
    for name in ("b.txt", "a.txt", "c.txt"):
        (tmp_path / name).write_text(name)
    assert read_corpus(str(tmp_path), limit=2).text.tolist() == ["a.txt", "b.txt"]


INVALID = {
    "x.txt": b"abc\xff\xe9 d",
    "x.jsonl": b'{"text": "abc\xff\xe9 d"}\n',
    "x.csv": b"text\nabc\xff\xe9 d\n",
    "y.jsonl": b'{"text": "abc\\udcff\\udce9 d"}\n',
}


@pytest.mark.parametrize("name", INVALID)
def test_what_is_not_utf8_is_refused_replaced_or_left_out(tmp_path, name):
    (tmp_path / name).write_bytes(INVALID[name])
    (tmp_path / "z.txt").write_text("valid")
    with pytest.raises(AtlasError, match="invalid_utf8 to replace or skip"):
        read_corpus(str(tmp_path))
    assert read_corpus(str(tmp_path), invalid_utf8="replace").text.tolist() == ["abc\ufffd\ufffd d", "valid"]
    assert read_corpus(str(tmp_path), invalid_utf8="skip").text.tolist() == ["valid"]


def test_files_come_in_the_order_of_their_documents(tmp_path):
    for name in ("a.jsonl", "a-b.jsonl", "a/c.jsonl", "a.txt", "a.jsonl.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        lines(tmp_path / name, {"text": name}) if name.endswith("l") else (tmp_path / name).write_text(name)
    settings = Corpus(source=str(tmp_path))
    write_corpus(tmp_path / "t.parquet", settings, beginning=False)
    names = read_table(tmp_path / "t.parquet").document.tolist()
    assert names == sorted(names) and len(names) == 5


def test_a_large_corpus_is_written_as_far_as_a_part_goes(tmp_path, monkeypatch):
    from weight_atlas.tokens import corpora

    monkeypatch.setattr(corpora, "_FRAME", 1000)
    rows = [{"text": "x" * 999} for _ in range(2500)]
    settings = Corpus(source=lines(tmp_path / "x.jsonl", *rows), part_megabytes=1)
    described = write_corpus(tmp_path / "t.parquet", settings, beginning=True)
    assert (described["documents"], described["complete"]) == (1001, False)
    assert len(read_table(tmp_path / "t.parquet")) == 1001
    assert write_corpus(tmp_path / "t.parquet", settings, beginning=False)["documents"] == 2500
