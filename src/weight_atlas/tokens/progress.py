"""Progress of counting, for the log: documents, speed, time left."""

import time
from collections.abc import Callable, Iterable, Iterator

from weight_atlas.numbers_of import number_of
from weight_atlas.tokens.batches import Documents

EVERY = 30.0  # seconds


class Progress:
    """Bytes of files that were read, of how many; 0: not known."""

    def __init__(self, size: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self._size, self._clock = size, clock
        self._read = self._documents = 0
        self._begun = self._said = clock()

    def read(self, size: int) -> None:
        """So many more bytes were read."""
        self._read += size

    def over(self, batches: Iterable[Documents]) -> Iterator[Documents]:
        """The same batches; a line in the log now and then."""
        for batch in batches:
            yield batch
            self._documents += len(batch.texts)
            if self._clock() - self._said >= EVERY:
                self._said = self._clock()
                print(self.line(), flush=True)

    def line(self) -> str:
        """What was done, how fast, and how long the rest takes at this speed."""
        seconds = max(self._clock() - self._begun, 1e-9)
        speed = self._read / seconds
        said = f"{number_of(self._documents, 'document')}, {self._read / 1e6:,.1f} MB read, {speed / 1e6:,.1f} MB/s"
        left = self._size - self._read
        return said if left <= 0 or not speed else f"{said}, {left / speed:,.0f} s left"
