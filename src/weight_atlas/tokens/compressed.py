"""Files of texts, which may be compressed, as streams of bytes."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, cast

from weight_atlas.errors import AtlasError, first_line
from weight_atlas.tokens.progress import Progress
from weight_atlas.tokens.sources import COMPRESSIONS

_BUFFER = 1 << 16


class _Watched(RawIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._file, self._progress = path.open("rb", buffering=0), progress

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int | None:
        size = self._file.readinto(buffer)
        self._progress.read(size or 0)
        return size

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def opened(path: Path, progress: Progress) -> Iterator[IO[bytes]]:
    """The content of a file, decompressed if its name says so; progress is told the bytes that the file has.

    AtlasError where it cannot be read or decompressed to its end.
    """
    compression = COMPRESSIONS.get(path.suffix)
    try:
        with _Watched(path, progress) as file:
            if compression is None:
                with BufferedReader(file, _BUFFER) as reader:
                    yield reader
                return
            import pyarrow

            with pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), compression) as content:
                yield BufferedReader(cast("RawIOBase", content), _BUFFER)
    except OSError as error:
        what = "the file cannot be read" if compression is None else "the file cannot be decompressed"
        raise AtlasError(f"{what}: {first_line(error)}", where=path, remedy="restore it or leave it out") from error
