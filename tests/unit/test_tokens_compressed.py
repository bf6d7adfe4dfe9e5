"""Corpora of compressed files hold what the plain ones do."""

import bz2
import gzip
import json
import random

import pyarrow as pa
import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.settings.corpora import Corpus
from weight_atlas.tokens.corpora import part_documents, read_corpus
from weight_atlas.tokens.parts import Share, corpus_parts
from weight_atlas.tokens.progress import Progress
from weight_atlas.tokens.sources import local_files

COMPRESSED = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}


@pytest.mark.parametrize("suffix", COMPRESSED)
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (".txt", "hé\r\nllo".encode()),
        (".jsonl", "".join(json.dumps({"text": f"täxt {row}"}) + "\n" for row in range(300)).encode()),
        (".json", "".join(json.dumps({"text": f"täxt {row}"}) + "\n" for row in range(300)).encode()),
        (".json", json.dumps([{"text": f"täxt {row}"} for row in range(300)], indent=1).encode()),
        (".csv", b"text,n\r\n" + "".join(f'"a ""q"", {row}\r\né",1\r\n' for row in range(300)).encode()),
    ],
)
def test_compressed_files_hold_the_same(tmp_path, kind, content, suffix):
    """Also those of several streams, one after the other; cut off, they are refused."""
    plain, packed = tmp_path / f"x{kind}", tmp_path / f"y{kind}{suffix}"
    plain.write_bytes(content)
    compress = COMPRESSED[suffix]
    packed.write_bytes(compress(content[:5]) + compress(content[5:]))
    assert read_corpus(str(packed)).text.tolist() == read_corpus(str(plain)).text.tolist()
    # A file that ends with .json alone may be settings beside texts.
    assert local_files(str(tmp_path)) == [file.as_posix() for file in (plain, packed) if file.suffix != ".json"]
    progress = Progress()
    counted = part_documents([Share(str(packed))], Corpus(source=str(packed)), progress)
    assert sum(len(batch.texts) for batch in counted) == len(read_corpus(str(plain)))
    assert f"{packed.stat().st_size / 1e6:,.1f} MB read" in progress.line()
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(AtlasError, match=rf"(?s)cannot be decompressed: .*y{kind}{suffix}.*restore it"):
        read_corpus(str(packed))


def test_compressed_files_are_parts_of_their_own(tmp_path):
    for name in ("x.jsonl.gz", "x.parquet.gz", "x.gz"):
        (tmp_path / name).write_bytes(random.Random(0).randbytes(2_500_000))
    entry = {"source": str(tmp_path), "limit": None, "max_documents": None, "part_megabytes": 1}
    (part,) = corpus_parts(entry).values()
    assert part == [Share((tmp_path / "x.jsonl.gz").as_posix())]
