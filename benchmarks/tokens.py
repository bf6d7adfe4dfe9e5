"""Speed and memory of exact token counting, beside the tokenizers library's own ways, on tokenizers that people use.

python benchmarks/tokens.py --megabytes 1 24 200 --names llama3 gemma3

The text is that of this machine's Python packages and documents, every file once, in an order that its content decides.
Ways: `lists`, one call per text and Python lists; `batch`, encode_batch_fast and numpy; `ours`, count_tokens.
Each is timed in a process of its own, in CPU seconds after the tokenizer is loaded; `ours` includes making its tables
and loading its compiled code, which is compiled beforehand, and also counts documents, words and bytes. Beyond
`--library-megabytes` the library, whose time grows evenly, is timed on so many.

`curve NAME` counts more and more text in one process, and prints the course of time and memory. With `--generated` the
text is that of generated_text.py, of any length: distinct words come as in natural language, and nothing is repeated.
With several threads the library has these, and ours is as many processes, each of its own part, as the workflow counts
a large corpus; seconds on the clock then stand beside CPU seconds.

CPU seconds of `batch` over those of `ours`, one thread, once each, at 24 MB, on a machine with five times as many busy
processes as cores: llama3 6.9, qwen3 9.9, gpt-oss 7.7, deepseek-v3 9.8, gemma3 5.3, llama2 6.0, minilm 8.4, mon 4.2.
At 1 MB both encode whole documents. `ours` over `batch` there, medians of 7 processes each, in turns: 1.01 to 1.04, but
for qwen3 1.06 and llama3 1.08, whose fastest are 1.03 and 1.01 apart; of 11 turns in one process qwen3 1.00, llama3
1.02, minilm 1.04. By two threads, 24 MB of generated text: 4.0 (qwen3) and 4.3 (minilm) times as fast by CPU seconds,
5.2 and 7.6 by the clock.

1 GB of generated text, one process, CPU seconds after 25, 202 and 1000 MB, and the peak of memory above the tokenizer:
qwen3 1.9, 5.8 and 24.3 s, 169, 169 and 169 MB; minilm 1.4, 4.8 and 20.0 s, 185, 199 and 199 MB. At 200 MB that is 27
and 17 times as fast as `batch`, whose time at 24 MB is scaled.
"""

import hashlib
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import cyclopts
import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from generated_text import generated_texts  # noqa: E402
from real_tokenizers import NAMES, NotHere, tokenizer_file  # noqa: E402

SUFFIXES = (".py", ".pyi", ".md", ".rst", ".txt", ".h", ".hpp", ".html", ".tex", ".c", ".js", ".css")
FOLDERS = (*dict.fromkeys(Path(path) for path in sys.path if path.endswith(("site-packages", "python3.11"))),)
MORE = (Path("/usr/share"), Path("/usr/include"), Path("/usr/lib"))
LARGEST_FILE = 2_000_000
MANY = cyclopts.Parameter(consume_multiple=True)
app = cyclopts.App(help_format="plaintext")


def texts(megabytes: float) -> Iterator[str]:
    """Distinct texts of this machine, of so many megabytes in all; the order is that of their hashes."""
    found: dict[bytes, Path] = {}
    for folder in (*FOLDERS, *MORE):
        for path in folder.rglob("*"):
            if path.suffix in SUFFIXES and path.is_file() and 200 < path.stat().st_size < LARGEST_FILE:
                found[hashlib.sha1(path.as_posix().encode()).digest()] = path
    seen, left = set(), megabytes * 1e6
    for _, path in sorted(found.items()):
        content = path.read_bytes()
        if left <= 0:
            return
        if (digest := hashlib.sha1(content).digest()) not in seen:
            seen.add(digest)
            try:
                text = content.decode()
            except UnicodeDecodeError:
                continue
            left -= len(content)
            yield text
    if left > 0:
        print(f"this machine has {megabytes - left / 1e6:.0f} MB of distinct text", file=sys.stderr)


def batches(lines: Iterable[str]) -> Iterator[list[str]]:
    """The texts of JSON lines, in batches as a corpus is counted in."""
    size, batch = 0, []
    for line in lines:
        batch.append(json.loads(line))
        size += len(batch[-1])
        if size > 1 << 22:
            yield batch
            size, batch = 0, []
    yield batch


def loaded(name: str, threads: int = 1) -> tuple[Any, Path, int]:
    """A tokenizer, its file, and the size of its vocabulary."""
    os.environ |= {"RAYON_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "true" if threads > 1 else "false"}
    import_module("weight_atlas.tokens.counting")  # not part of what is timed
    from tokenizers import Tokenizer

    file = tokenizer_file(name)
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer, file, max(tokenizer.get_vocab().values()) + 1


def ours(tokenizer: Any, file: Path, vocabulary: int, texts: Iterable[list[str]]) -> np.ndarray:
    """The counts by the library that is measured."""
    from weight_atlas.tokens.batches import Documents
    from weight_atlas.tokens.counting import count_tokens

    backend = SimpleNamespace(backend_tokenizer=tokenizer)
    documents = (Documents(batch, [""] * len(batch)) for batch in texts)
    return count_tokens(backend, documents, vocabulary, file=file).counts


def ours_in_parts(tokenizer: Any, file: Path, vocabulary: int, text: Path, parts: int) -> np.ndarray:
    """The counts by as many processes, each of its own share of the lines, as the workflow counts a large corpus."""

    def share(number: int, pipe: Any) -> None:
        lines = (line for place, line in enumerate(text.open(encoding="utf-8")) if place % parts == number)
        pipe.send(ours(tokenizer, file, vocabulary, batches(lines)))

    forked = multiprocessing.get_context("fork")
    running = []
    for number in range(parts):
        here, there = forked.Pipe(duplex=False)
        process = forked.Process(target=share, args=(number, there))
        process.start()
        running.append((process, here))
    counts = sum(here.recv() for _, here in running)
    for process, _ in running:
        process.join()
    return counts


@app.command
def curve(
    name: str, *, megabytes: float = 1000, generated: bool = False, folder: Path = Path("/tmp/weight-atlas-tokens")
) -> None:
    """Count more and more text, and print CPU seconds so far and the peak of memory above the loaded tokenizer."""
    text = _text(folder, megabytes, generated)
    tokenizer, file, vocabulary = loaded(name)
    marks = [size for size in (24, 50, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000) if size <= megabytes]
    before, start, reading = _peak(), time.process_time(), 0.0

    def watched() -> Iterator[list[str]]:
        nonlocal reading
        done = 0
        source = batches(text.open(encoding="utf-8"))
        while True:
            begin = time.process_time()
            batch = next(source, None)
            size = sum(len(each.encode()) for each in batch or [])
            reading += time.process_time() - begin
            while marks and (done >= marks[0] * 1e6 or batch is None):
                took = time.process_time() - start - reading
                print(f"{name} {done / 1e6:.0f} MB: {took:.2f} s, {_peak() - before:.0f} MB of memory", flush=True)
                if marks.pop(0) * 1e6 > done:
                    return
            if batch is None:
                return
            yield batch
            done += size

    ours(tokenizer, file, vocabulary, watched())


def _peak() -> float:
    """Megabytes that this process, or the largest of those it started, held at most."""
    return max(resource.getrusage(whose).ru_maxrss for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024


def _cpu() -> float:
    """CPU seconds of this process and of those it started."""
    took = os.times()
    return took.user + took.system + took.children_user + took.children_system


@app.command
def measure(name: str, way: str, megabytes: float, text: Path, threads: int = 1) -> None:
    """Time one way in this process, and print what it took."""
    tokenizer, file, vocabulary = loaded(name, threads)
    before = _peak()
    reading = time.process_time()
    for _ in batches(text.open(encoding="utf-8")):
        pass
    reading = time.process_time() - reading
    start, wall = _cpu(), time.perf_counter()
    counts = np.zeros(vocabulary, np.int64)
    if way == "ours" and threads > 1:
        counts = ours_in_parts(tokenizer, file, vocabulary, text, threads)
    elif way == "ours":
        counts = ours(tokenizer, file, vocabulary, batches(text.open(encoding="utf-8")))
    else:
        for batch in batches(text.open(encoding="utf-8")):
            if way == "lists":
                for one in batch:
                    for id in tokenizer.encode(one, add_special_tokens=False).ids:
                        counts[id] += 1
            else:
                for each in tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                    counts += np.bincount(np.array(each.ids, np.int64), minlength=vocabulary)
    print(
        json.dumps(
            {
                "cpu_s": _cpu() - start - reading,
                "wall_s": time.perf_counter() - wall,
                "peak_mb": _peak() - before,
                "tokens": int(counts.sum()),
                "digest": hashlib.sha1(counts.tobytes()).hexdigest(),
            }
        )
    )


@app.default
def main(
    *,
    megabytes: Annotated[list[float] | None, MANY] = None,
    names: Annotated[list[str] | None, MANY] = None,
    ways: Annotated[list[str] | None, MANY] = None,
    threads: int = 1,
    repeats: int = 1,
    generated: bool = False,
    library_megabytes: float = 24,
    folder: Path = Path("/tmp/weight-atlas-tokens"),
) -> None:
    """Measure, and print a table: CPU seconds, and with several threads (ours: processes) those on the clock beside.

    repeats: the ways take turns so many times, and the median counts. generated: text of generated_text.py.
    """
    rows = []
    for name in names or NAMES:
        try:
            tokenizer_file(name)
        except NotHere as reason:
            print(f"{name} left out: {reason}", file=sys.stderr)
            continue
        for size in megabytes or [1, 24]:
            row = {"tokenizer": name, "MB": size}
            of_all = ways or ("lists", "batch", "ours")
            runs: dict[str, list[dict]] = {way: [] for way in of_all}
            for way in [*of_all] * repeats:
                on = size if way == "ours" else min(size, library_megabytes)
                took = _measured(name, way, on, _text(folder, on, generated), threads)
                scaled = {key: took[key] * size / on for key in ("cpu_s", "wall_s")}
                runs[way].append(took | scaled)
            for way, each in runs.items():
                median = pd.DataFrame(each).median(numeric_only=True)
                row |= {way: median["cpu_s"], f"{way}_mb": median["peak_mb"], f"{way}_digest": each[0]["digest"]}
                row |= {f"{way}_clock": median["wall_s"]} if threads > 1 else {}
            for way in {"lists", "batch"} & set(of_all):
                row[f"{way}/ours"] = row[way] / row["ours"] if "ours" in row else np.nan
            if size <= library_megabytes and {"batch", "ours"} <= row.keys():
                assert row["batch_digest"] == row["ours_digest"], f"{name}: other counts"
            rows.append({key: value for key, value in row.items() if not key.endswith("_digest")})
            print(pd.DataFrame(rows[-1:]).round(2).to_string(index=False, header=len(rows) == 1), flush=True)
    print(pd.DataFrame(rows).round(2).to_markdown(index=False))


def _text(folder: Path, megabytes: float, generated: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{'generated-' if generated else ''}{megabytes:g}.jsonl"
    if not path.is_file():
        with path.open("w", encoding="utf-8") as file:
            for text in generated_texts(megabytes) if generated else texts(megabytes):
                file.write(json.dumps(text) + "\n")
    return path


def _measured(name: str, way: str, megabytes: float, text: Path, threads: int) -> dict:
    command = [sys.executable, __file__, "measure", name, way, str(megabytes), str(text), "--threads", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    app()
