"""The bundled corpus: prose of the Python installation, the same wherever the same versions are installed.

The text is taken at run time from the standard library and from packages that the lock pins, and never stored with
this project, since it belongs to others. Every fortieth file, chosen by the hash of its name, is held out: the `test`
split is the prose of these files alone and takes a few seconds; `train` is the rest, without any paragraph of `test`.
"""

import hashlib

import pandas as pd

from weight_atlas.errors import AtlasError
from weight_atlas.tokens.installation import SourceFile, read_source, source_files
from weight_atlas.tokens.prose import fingerprint, paragraphs

SPLITS = ("test", "train")
HELD_OUT_ONE_IN = 40


def python_docs(split: str) -> pd.DataFrame:
    """Return the documents of a split ("test" or "train"), one per source file that has prose.

    Columns: document (name in the installation), text (paragraphs apart by an empty line), group (the package).
    Sorted by document. A paragraph stands once in the whole corpus. AtlasError where a package is missing.
    """
    if split not in SPLITS:
        raise AtlasError(
            f"the bundled corpus has no split {split!r}", remedy=f"use split: {' or split: '.join(SPLITS)}"
        )
    files = source_files()
    held_out = {name: file for name, file in files.items() if is_held_out(name)}
    seen: set[bytes] = set()
    documents = _documents(held_out, seen)
    if split == "train":
        documents = _documents({name: file for name, file in files.items() if name not in held_out}, seen)
    return pd.DataFrame(documents, columns=["document", "text", "group"])


def is_held_out(name: str) -> bool:
    """Say whether a source file belongs to the test split: one in forty, by the SHA-1 of its name."""
    return int(hashlib.sha1(name.encode()).hexdigest(), 16) % HELD_OUT_ONE_IN == 0


def _documents(files: dict[str, SourceFile], seen: set[bytes]) -> list[tuple[str, str, str]]:
    """Return (name, text, package) of files with prose, without paragraphs seen before; adds theirs to those seen."""
    documents = []
    for name, file in files.items():
        fresh = []
        for paragraph in paragraphs(read_source(file)):
            mark = fingerprint(paragraph)
            if mark not in seen:
                seen.add(mark)
                fresh.append(paragraph)
        if fresh:
            documents.append((name, "\n\n".join(fresh), file.package))
    return documents
