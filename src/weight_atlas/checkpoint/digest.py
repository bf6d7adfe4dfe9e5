"""Digests of files: what a manifest records, and what the hub says of its own files."""

import hashlib
import os
from pathlib import Path

from weight_atlas.errors import AtlasError


def sha256(path: Path) -> str:
    """Hex SHA-256 of a file, by plain reads."""
    try:
        with path.open("rb", buffering=0) as file:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AtlasError(f"cannot read: {error.strerror}", where=path, remedy="check path and permissions") from error


def git_hash(path: Path) -> str:
    """Hex SHA-1 under which git keeps a file of this content: what the hub records of its small files."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
