"""The pages of large models: CPU seconds to write one, what it weighs, and how fast a browser opens and recolours it.

    OMP_NUM_THREADS=1 python benchmarks/atlas.py

Results of made-up models (tests/unit/atlas_results.py): 80 layers of 64 heads, and 60 layers of 256 experts, of which
each tensor has the numbers of two tables. `first` is what the page loads before it is ready, `folder` all that lies
beside it. `ready` is from the address to a map that is drawn, in a headless Chromium; `recolour` the longest of the
metrics of a grid, numbers to colours on the canvas; both are medians of three.

On 2 cores that some twenty other processes used, too: 80 layers of 64 heads 3.6 CPU s, 1.3 MB first, 1.6 MB folder,
ready in 1.2 s, 5,120 heads recoloured in .006 s, 803 tensors in .03 s; 60 layers of 256 experts 3.5 CPU s, 3.9 MB
first, 6.4 MB folder, ready in 1.5 s, 46,503 tensors recoloured in .24 s. Both write the page as Markdown, too.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import cyclopts
import pandas as pd

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests/unit"))
import atlas_results  # noqa: E402
from watched_browser import started  # noqa: E402

SIZES = {"layers-80-heads-64": {"layers": 80, "heads": 64}, "layers-60-experts-256": {"layers": 60, "experts": 256}}
REPEATS = 3
RECOLOUR = """async () => {
  const page = JSON.parse(document.getElementById("page").textContent);
  const metrics = new Metrics(page);
  const canvas = document.getElementById("canvas");
  const map = new GridMap(canvas, { chosen() {}, over() {} });
  const longest = {};
  for (const grid of page.grids) {
    map.show(grid, [], []);
    for (const metric of page.metrics.filter((each) => each.grid === grid.kind)) {
      await metrics.of(metric);
      const begin = performance.now();
      map.paint((await metrics.scores(metric)).score);
      const name = `${grid.cells.row.length.toLocaleString("en")} ${grid.kind}s`;
      longest[name] = Math.max(longest[name] ?? 0, performance.now() - begin);
    }
  }
  return longest;
}"""


def main() -> None:
    """Print a row a size."""
    rows = []
    with started() as browser, tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            results = Path(folder) / name / "results"
            page = _written(results, size)
            rows.append({"model": name, **page, **_opened(browser, results / "atlas/models/m.html")})
    print(pd.DataFrame(rows).to_string(index=False))


def _written(results: Path, size: dict[str, int]) -> dict[str, float]:
    taken = []
    write = atlas_results.write_page

    def timed(*arguments):
        begin = time.process_time()
        write(*arguments)
        taken.append(time.process_time() - begin)

    atlas_results.write_page = timed
    try:
        page = atlas_results.write_atlas(results, **size)
    finally:
        atlas_results.write_page = write
    atlas_results.write_shared(results)
    folder = sum(path.stat().st_size for path in page.with_suffix("").rglob("*") if path.is_file())
    return {"write, CPU s": round(taken[0], 2), "folder, MB": round((folder + page.stat().st_size) / 1e6, 1)}


def _opened(browser, file: Path) -> dict[str, object]:
    ready, recoloured, loaded = [], [], 0
    for _ in range(REPEATS):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        asked: list[str] = []
        page.on("request", lambda request, asked=asked: asked.append(request.url))
        begin = time.perf_counter()
        page.goto(file.as_uri())
        page.wait_for_selector("html[data-ready=yes]")
        ready.append(time.perf_counter() - begin)
        files = [Path(url.removeprefix("file://")) for url in asked if url.startswith("file:")]
        loaded = sum(path.stat().st_size for path in files)
        recoloured.append(page.evaluate(RECOLOUR))
        page.close()
    times = {name: round(median(each[name] for each in recoloured) / 1000, 3) for name in recoloured[0]}
    return {"first, MB": round(loaded / 1e6, 1), "ready, s": round(median(ready), 2), "recolour, s": times}


if __name__ == "__main__":
    cyclopts.run(main)
