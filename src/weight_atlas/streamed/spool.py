"""The few shards of a streamed model that are on the disk at a time.

A shard that comes whole is compared with the hub's digest, and a stretch of a large one lies in a sparse file of its
shard. Tensors that later work needs stay, in a sparse file. The
spool stays within its bound; what would exceed it is requested again when it is needed.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from weight_atlas.artifacts import read_json, write_json
from weight_atlas.checkpoint.hub import explaining
from weight_atlas.checkpoint.repository import Repository
from weight_atlas.checkpoint.streamed import Place
from weight_atlas.checkpoint.transfer import UNFINISHED, arriving, fetch_file
from weight_atlas.errors import AtlasError

if TYPE_CHECKING:
    from weight_atlas.streamed.plan import Stretch

_BLOCK = 16 << 20  # bytes that are copied at once
_KEPT = "kept.json"


class Spool:
    """A folder with the tensors that are at hand; here: their places, a set that changes as they come and go.

    repository: asked for at the first fetch. most: bytes that all files together may take on the disk.
    """

    def __init__(self, folder: Path, repository: Callable[[], Repository], sizes: dict[Place, int], most: float):
        self.folder, self._repository, self._sizes, self._most = folder, repository, sizes, most
        folder.mkdir(parents=True, exist_ok=True)
        self._kept: set[Place] = set()
        self._fetched: set[Place] = set()  # since things were let go
        if (folder / _KEPT).is_file():
            self._kept = {(shard, offset) for shard, offset in read_json(folder / _KEPT)}
        self.here = set(self._kept)
        of_use = {_KEPT, *(shard for shard, _ in self._kept)}
        for path in folder.iterdir():  # what a process left that ended in between
            if path.name not in of_use and path.suffix != UNFINISHED:
                path.unlink()

    def fetch(self, stretch: "Stretch", digest: str) -> None:
        """Bring a stretch of a shard here, over what was kept of that shard.

        digest: of the shard, as the manifest has it; AtlasError where the hub has another by now.
        """
        repository, path = self._repository(), self.folder / stretch.shard
        listed = repository.files.get(stretch.shard)
        if listed is None or (listed.digest or "") != digest:
            raise AtlasError(
                f"{stretch.shard} is not the file that the manifest describes: its digest on the hub is another",
                where=repository.text,
                remedy="run again: snakemake --forcerun fetch_checkpoint",
            )
        with explaining(repository.text):
            if stretch.whole:
                fetch_file(repository, stretch.shard, path)
            else:
                self._fetch_range(repository, stretch.shard, stretch.start, stretch.stop)
        self.here |= stretch.places
        self._fetched |= stretch.places

    def _fetch_range(self, repository: Repository, shard: str, start: int, stop: int) -> None:
        """Put bytes of a shard where they lie in it, into a sparse file."""
        descriptor = os.open(self.folder / shard, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            for piece in arriving(repository, shard, start, stop):
                left = memoryview(piece)
                while left:
                    written = os.pwrite(descriptor, left, start)
                    left, start = left[written:], start + written
        finally:
            os.close(descriptor)

    def bring(self, places: Iterable[Place]) -> None:
        """Request by ranges the tensors that are not here: of shards that other parts fetch, or that were removed."""
        for shard, offset in sorted({*places} - self.here):
            stop = offset + self._sizes[shard, offset]
            repository = self._repository()
            with explaining(repository.text):
                self._fetch_range(repository, shard, offset, stop)
            self.here.add((shard, offset))

    def keep(self, wanted: Iterable[Place]) -> None:
        """Remove all that is here but the tensors that are still needed, as far as there is room for them."""
        wanted, room = set(wanted), self._most
        kept: set[Place] = set()
        for place in sorted(self.here & wanted):
            if self._sizes[place] <= room:
                room -= self._sizes[place]
                kept.add(place)
        # What the list promises is there at any moment, also when this process ends in between.
        write_json(self.folder / _KEPT, sorted(kept & self._kept))
        for shard in {shard for shard, _ in self.here | self._fetched}:
            before, after = ({place for place in some if place[0] == shard} for some in (self.here, kept))
            if before != after or shard in {other for other, _ in self._fetched}:
                self._reduce(shard, sorted(after))
        write_json(self.folder / _KEPT, sorted(kept))
        self.here.intersection_update(kept)
        self._kept, self._fetched = kept, set()

    def _reduce(self, shard: str, places: list[Place]) -> None:
        """Replace a shard's file by a sparse one with some of its tensors."""
        path, less = self.folder / shard, self.folder / f"{shard}.less"
        if not places:
            path.unlink(missing_ok=True)
            return
        with path.open("rb") as source, less.open("wb") as target:
            for _, offset in places:
                source.seek(offset)
                target.seek(offset)
                left = self._sizes[shard, offset]
                while left:
                    block = source.read(min(_BLOCK, left))
                    target.write(block)
                    left -= len(block)
        less.replace(path)
