"""A part of a streamed model: its shards are fetched one after the other, measured, and removed.

The tables of each stretch are on the disk before the next one is fetched, so that an interrupted part goes on there.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from weight_atlas.artifacts import write_table
from weight_atlas.checkpoint.manifest import read_manifest
from weight_atlas.checkpoint.reach import Reached
from weight_atlas.checkpoint.source import HubSource
from weight_atlas.checkpoint.streamed import Place, open_in
from weight_atlas.errors import AtlasError
from weight_atlas.streamed.plan import Stretch, Unit, of_part, part_of, requested_again, shared_out, stretches, units
from weight_atlas.streamed.spool import Spool
from weight_atlas.streamed.tables import STEPS
from weight_atlas.streamed.work import Measures, Work

# A folder for spools that is not beside the results, such as one on the disk of a cluster's node.
SPOOL = "WEIGHT_ATLAS_SPOOL"
_ALLOWED = 1.1  # times the checkpoint that may cross the network


class Part:
    """Part K of N of a streamed model, as the headers of its shards say.

    manifest: path of the model's. inventory: of all of it. spool_bytes: that may be on the disk at a time; half of them
    for what is fetched, half for what is kept of it.
    """

    def __init__(
        self, manifest: Path, inventory: pd.DataFrame, scatteritem: str, spool_bytes: float, measures: Measures
    ):
        self._manifest, self._spec, source = read_manifest(manifest)
        if not self._manifest.get("stream") or not isinstance(source, HubSource):
            raise AtlasError("not a streamed model", where=manifest, remedy="set `stream: true` in its entry")
        self._source, self._inventory, self._measures = source, inventory, measures
        self._half, (number, count) = spool_bytes / 2, part_of(scatteritem)
        self._reached = Reached(source, str(self._spec.revision))
        self._files = {file["name"]: file for file in self._manifest["files"]}
        checkpoint = open_in(self._spec, source, Path(), self._reached)
        self._sizes = {(each.shard, each.offset): each.bytes for each in checkpoint.stored.entries.values()}
        shards = sorted({shard for shard, _ in self._sizes})
        every = stretches(checkpoint, {name: self._files[name]["size"] for name in shards}, self._half)
        shares = shared_out(every, count)
        work = units(inventory, checkpoint, measures.steps, fold_norm=measures.attention.fold_norm)
        self.share, self._own = shares[number], of_part(work, shares, number)
        self._say(every, requested_again(work, shares), count)

    def _say(self, every: list[Stretch], again: int, count: int) -> None:
        total = sum(each.bytes for each in every)
        mine = sum(each.bytes for each in self.share)
        print(
            f"{len(self.share)} of {len(every)} stretches, {mine / 1e9:.3f} of {total / 1e9:.3f} GB; "
            f"all parts together request {1 + again / max(1, total):.3f} times the weights",
            flush=True,
        )
        if total + again > _ALLOWED * total:
            print(f"warning: more than {_ALLOWED} times: fewer than {count} parts request less twice", flush=True)

    def passed_by(self, folder: Path, code: str, *, threads: int, device: str) -> dict[str, list[Path]]:
        """Fetch, measure and remove one stretch after the other; returns the tables by their names.

        folder: for the shards that are here, and for how far the work is. code: digest of all code that it runs.
        """
        progress = folder / f"measured-{self._identity(code)}"
        for other in folder.glob("measured-*"):
            if other != progress:  # of other settings, or of other code
                shutil.rmtree(other)
        shards = folder / "shards"
        spool = Spool(shards, self._reached, self._sizes, self._half)
        checkpoint = open_in(self._spec, self._source, shards, self._reached, here=spool.here)
        work = Work(checkpoint, self._inventory, self._measures, threads=threads, device=device)
        for number, (stretch, ready, later) in enumerate(self._in_turn()):
            if not (done := progress / f"{number:05d}").is_dir():
                print(f"{stretch.shard}: {stretch.bytes} bytes, {number + 1} of {len(self.share)}", flush=True)
                spool.fetch(stretch, self._files[stretch.shard]["sha256"])
                spool.bring(_places(ready))
                _write(done, work.measure(ready))
                spool.keep(_places(later))
        if self._reached.asked:
            print(f"{self._reached().bytes} bytes in {self._reached().requests} requests", flush=True)
        return {name: sorted(progress.glob(f"*/{name}.parquet")) for name in STEPS}

    def _in_turn(self) -> Iterator[tuple[Stretch, list[Unit], list[Unit]]]:
        """Each stretch with the work that it makes possible, and the work that waits for later ones."""
        at: dict[Place, int] = {place: number for number, each in enumerate(self.share) for place in each.places}
        turns = [max(at.get(place, 0) for place in unit.places) for unit in self._own]
        for number, stretch in enumerate(self.share):
            due = list(zip(turns, self._own, strict=True))
            yield (
                stretch,
                [unit for turn, unit in due if turn == number],
                [unit for turn, unit in due if turn > number],
            )

    def _identity(self, code: str) -> str:
        """What the tables of the stretches depend on."""
        settings = repr(self._measures)
        share = [(each.shard, each.start, each.stop) for each in self.share]
        digest = hashlib.sha256(pd.util.hash_pandas_object(self._inventory).to_numpy().tobytes()).hexdigest()
        told = json.dumps([self._manifest, settings, share, digest, code], sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def record(self) -> dict[str, Any]:
        """How the shards came: each stretch, and whether it was compared with the hub's digest."""
        came = [
            {
                "shard": each.shard,
                "start": each.start,
                "stop": each.stop,
                "verified": each.whole and bool(self._files[each.shard]["sha256"]),
            }
            for each in self.share
        ]
        fetched = {place for each in self.share for place in each.places}
        elsewhere = sorted({place for unit in self._own for place in unit.places} - fetched)
        return {"stretches": came, "by_ranges": [[*place, self._sizes[place]] for place in elsewhere]}


def spool_folder(output: Path) -> Path:
    """The folder of a part that writes an output: beside it, or in the one that the environment names for spools."""
    beside = output.with_name(f"{output.stem}.spool")
    elsewhere = os.environ.get(SPOOL)
    if not elsewhere:
        return beside
    return Path(elsewhere) / hashlib.sha256(str(beside.absolute()).encode()).hexdigest()[:16]


def clear(folder: Path) -> None:
    """Remove the folder of a part whose outputs are written."""
    shutil.rmtree(folder)


def _places(some: list[Unit]) -> set[Place]:
    return {place for unit in some for place in unit.places}


def _write(folder: Path, tables: Mapping[str, pd.DataFrame]) -> None:
    begun = folder.with_name(f".{folder.name}")
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir(parents=True)
    for name, table in tables.items():
        write_table(begun / f"{name}.parquet", table)
    begun.replace(folder)
