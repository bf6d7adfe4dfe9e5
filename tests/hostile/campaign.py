"""Read thousands of mutated files in processes of limited memory and time, and say what was not one clear message.

    python tests/hostile/campaign.py [KIND ...] --cases 1000 --seed 0

Each case is a valid input with one to three mistakes in one of its files, which the seed chooses. An outcome is "clear"
(an AtlasError that names a file of the input and a remedy, and holds nothing that a terminal would obey), "accepted",
or what else happened.
"""

import argparse
import os
import random
import resource
import select
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "RAYON_NUM_THREADS")
if __name__ == "__main__":
    os.environ.update(dict.fromkeys(THREADS, "1"), TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1")
    sys.path[0] = str(Path(__file__).resolve().parents[1])  # and not this folder, whose modules are named for inputs

from hostile.mutations import mutated  # noqa: E402
from hostile.readers import READERS  # noqa: E402
from hostile.valid import VALID  # noqa: E402
from hostile.valid_models import Files  # noqa: E402

MEMORY = 1 << 30  # bytes that a case may take beside what this process has
SECONDS = 10.0  # of a processor


def bad_files(kind: str, seed: int) -> Files:
    """A valid input of a kind with mistakes in one of its files."""
    chosen = random.Random(f"{kind} {seed}")
    files = VALID[kind]()
    name = chosen.choice(sorted(files))
    return files | {name: mutated(files[name], name, chosen)}


def outcome(kind: str, files: Files, folder: Path) -> str:
    """What reading the files in an empty folder ends with."""
    from weight_atlas.errors import CONTROL, AtlasError

    for name, content in files.items():
        (folder / name).write_bytes(content)
    for read in READERS[kind]:
        try:
            read(folder)
        except AtlasError as error:
            named = any(name in str(error) for name in (*files, str(folder)))
            clear = named and error.remedy and not CONTROL.search(str(error))
            return "clear" if clear else f"unclear: {str(error)[:300]}"
        except BaseException as error:
            own = [frame for frame in traceback.extract_tb(error.__traceback__) if "weight_atlas" in frame.filename]
            at = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
            return f"{type(error).__name__}{at}: {str(error)[:160]!r}"
    return "accepted"


def in_use() -> int:
    """Bytes of address space that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def _cpu_seconds(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def campaign(kind: str, first: int, cases: int) -> dict[int, str]:
    """The outcome of each seed, in processes that are forked anew after one that hung or died."""
    with tempfile.TemporaryDirectory() as folder:  # what is imported here, forks have
        assert (said := outcome(kind, VALID[kind](), Path(folder))) == "accepted", f"{kind}: {said}"
    found: dict[int, str] = {}
    while (seed := first + len(found)) < first + cases:
        reading, writing = os.pipe()
        sys.stdout.flush()
        if not (child := os.fork()):
            os.close(reading)
            _read_all(kind, range(seed, first + cases), writing)
        os.close(writing)
        said, hung, spent = b"", False, 0.0
        while not hung:
            if select.select([reading], [], [], SECONDS)[0]:
                if not (got := os.read(reading, 1 << 16)):
                    break
                said, spent = said + got, _cpu_seconds(child)
            elif hung := _cpu_seconds(child) - spent > SECONDS:  # and not only waiting for a busy machine
                os.kill(child, signal.SIGKILL)
        os.close(reading)
        _, status = os.waitpid(child, 0)
        found |= dict(enumerate(said.decode().split("\n")[:-1], start=seed))
        if len(found) < cases:
            found[first + len(found)] = "hang" if hung else f"died: status {status}"
    return found


def _read_all(kind: str, seeds: range, pipe: int) -> None:
    """In the child: read the cases one after the other, and say after each what came of it."""
    resource.setrlimit(resource.RLIMIT_AS, (in_use() + MEMORY,) * 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 28,) * 2)
    with Path(os.devnull).open("w") as nothing, redirect_stdout(nothing), redirect_stderr(nothing):
        for descriptor in (1, 2):
            os.dup2(nothing.fileno(), descriptor)
        for seed in seeds:
            with tempfile.TemporaryDirectory() as folder:
                said = outcome(kind, bad_files(kind, seed), Path(folder)).replace("\n", " ")
            os.write(pipe, f"{said}\n".encode("utf-8", "backslashreplace"))
    os._exit(0)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("kinds", nargs="*", help=", ".join(VALID))
    options.add_argument("--cases", type=int, default=1000)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    bad = 0
    for kind in given.kinds or list(VALID):
        began = time.monotonic()
        found = campaign(kind, given.seed, given.cases)
        counts = Counter(said if said in ("accepted", "clear") else "bad" for said in found.values())
        bad += counts["bad"]
        print(f"{kind}: {dict(counts)} in {time.monotonic() - began:.0f} s", flush=True)
        others: dict[str, list[int]] = {}
        for seed, said in found.items():
            if said not in ("accepted", "clear"):
                others.setdefault(said[:400], []).append(seed)
        for said, seeds in others.items():
            print(f"    {len(seeds)} times, first with seed {seeds[0]}: {said}", flush=True)
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
