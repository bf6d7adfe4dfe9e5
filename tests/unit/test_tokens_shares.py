"""Shares of files, which parts of a corpus are counted by, and what counting says meanwhile."""

import json

import pandas as pd
import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.settings.corpora import Corpus
from weight_atlas.tokens.batches import Documents
from weight_atlas.tokens.corpora import part_documents
from weight_atlas.tokens.parts import Share, corpus_parts, parse_share
from weight_atlas.tokens.progress import Progress


def lines(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def texts_of(shares, **settings):
    corpus = Corpus(source="x", **settings)
    return [text for batch in part_documents(shares, corpus, Progress()) for text in batch.texts]


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet"])
def test_shares_of_a_file_hold_each_row_once(tmp_path, kind):
    texts = [f"é row {number} " + "y" * (number % 37) for number in range(200)]
    table = pd.DataFrame({"text": texts})
    path = tmp_path / f"x.{kind}"
    table.to_parquet(path, row_group_size=7) if kind == "parquet" else lines(path, *table.to_dict("records"))
    for of in (1, 2, 3, 16, 250):
        parts = [texts_of([Share(str(path), number, of)]) for number in range(of)]
        assert sorted(text for part in parts for text in part) == sorted(texts)
    assert sum(map(len, parts)) == 200 and max(map(len, parts)) < 12


def test_a_share_may_begin_where_a_line_does(tmp_path):
    path = lines(tmp_path / "x.jsonl", *({"text": f"{number:03d}"} for number in range(12)))
    for of in (2, 3, 4, 12):
        read = [texts_of([Share(path, number, of)]) for number in range(of)]
        assert [text for part in read for text in part] == [f"{number:03d}" for number in range(12)]


def entry(source, **more):
    return {**Corpus(source=source, part_megabytes=1).model_dump(), **more}


def test_parts_depend_on_names_and_sizes_alone(tmp_path):
    def write(name, kilobytes):
        (tmp_path / name).write_bytes(b"x" * (1000 * kilobytes))

    write("small.txt", 900)
    assert corpus_parts(entry(str(tmp_path))) == {}  # one job counts it
    for number in range(40):
        write(f"{number}.txt", 100)
    write("large.jsonl", 2500)
    write("large.txt", 2500)
    parts = corpus_parts(entry(str(tmp_path)))
    whole = {str(share) for shares in parts.values() for share in shares}
    assert len(whole) == 41 + 3 + 1 and all(parse_share(text) for text in whole)
    assert sorted(share.of for shares in parts.values() for share in shares if "large" in share.path) == [1, 3, 3, 3]
    small = [name for name in parts if name.startswith("files-")]
    assert 4 <= len(small) <= 8 and all(name.endswith("-of-8") for name in small)  # 4.9 MB of small files
    write("7.txt", 150)
    write("new.txt", 1)
    changed = corpus_parts(entry(str(tmp_path)))
    assert len([name for name in changed if changed[name] != parts.get(name)]) == 1  # that of the new file
    for first_rows in ({"limit": 3}, {"max_documents": 3}):
        assert corpus_parts(entry(str(tmp_path), **first_rows)) == {}
    assert corpus_parts(entry("bundled:python-docs")) == corpus_parts(entry("hf:org/name")) == {}


@pytest.mark.parametrize("text", ["", "x.txt", "0/0 x", "2/2 x", "-1/2 x", "a/b x", "0/1 "])
def test_what_is_no_share_is_said(text):
    with pytest.raises(AtlasError, match="not a share"):
        parse_share(text)


def test_progress_says_how_far_counting_is(capsys):
    times = iter([0.0, 10.0, 40.0, 40.0, 40.0])
    progress = Progress(100_000_000, clock=lambda: next(times))

    def batches():
        for _ in range(2):
            progress.read(20_000_000)
            yield Documents(["a", "b"], ["", ""])

    assert len(list(progress.over(batches()))) == 2
    assert capsys.readouterr().out.splitlines() == [
        "4 documents, 40.0 MB read, 1.0 MB/s, 60 s left",
    ]
