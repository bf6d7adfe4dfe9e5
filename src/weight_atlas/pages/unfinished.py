"""The pages of a run that failed: of what there is, marked incomplete, and never taken for up to date.

Jobs are Snakemake's, and `dag` is its graph of them: dependencies (job -> job -> files), needrun and finished. A step
that had to run and did not leaves nothing to show, even where files of an earlier run are still in their place.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from weight_atlas.artifacts import atomic
from weight_atlas.errors import AtlasError
from weight_atlas.findings.gather import gathered
from weight_atlas.pages.collect import product_of
from weight_atlas.pages.headline import Tables
from weight_atlas.pages.html.model_page import write_model_page
from weight_atlas.pages.html.sources import Artifacts
from weight_atlas.pages.page import Failures, Product, model_page, overview_page
from weight_atlas.pages.pages import about, headline_of, summary_of, write_index_page
from weight_atlas.pages.series import about_series

# Older than any input, so that the next run makes the page again; 1980 is the first year that archives can hold.
LONG_AGO = 315_619_200
UNREADABLE = "it cannot be read"
LOG_BYTES, WORDS = 1 << 16, 1000


def unfinished(dag: Any, steps: Collection[str]) -> list[Any]:
    """The jobs of these steps that had to run and did not, those that others wait for first."""
    jobs = [job for level in dag.toposorted() for job in level]
    return [job for job in jobs if job.rule.params.get("step") in steps and not _stands(dag, job)]


def write_unfinished_page(dag: Any, failed: Collection[Any], job: Any, summaries: dict[Path, dict]) -> None:
    """Write the pages of a job that could not run; its old summary goes, and the new one to `summaries`.

    job: of `atlas` or `vector_page`, whose one wildcard names what the page is of.
    """
    page, browser, model = Path(job.output.page), Path(job.output.browser), str(next(iter(job.wildcards)))
    for old in (Path(job.output.summary), page):  # what lacks a file is made again, wherever this is stopped
        old.unlink(missing_ok=True)
    results, makers = browser.parents[2], _makers(dag, job)
    there = [path for path in _paths(job.input.products) if _is_there(dag, makers, path)]
    cards = {
        field.name: Path(path)
        for field in fields(Artifacts)
        if (path := job.input.get(field.name)) and _is_there(dag, makers, Path(path))
    }
    found = _found(dag, failed, job, results)
    products = [product for product, _ in found]
    damaged = [results / product.name for product in products if product.missing.startswith(UNREADABLE)]
    findings, failures = _findings(dag, job, results), _failures(dag, failed, job)
    told = write_model_page(
        browser,
        Path(job.output.data),
        model,
        found,
        [path for path in there if not any(map(path.is_relative_to, damaged))],
        findings,
        Artifacts(**cards),
        failures,
    )
    _age(browser)
    _write(page, model_page(model, headline_of(found), findings, products, failures))
    about = {**summary_of(model, found, findings), **told, "page": f"../{page.parent.name}/{page.name}"}
    summaries[Path(job.output.summary)] = {**about, "incomplete": True}


def _found(dag: Any, failed: Collection[Any], job: Any, results: Path) -> list[tuple[Product, Tables]]:
    found = list(_collected(dag, failed, job, results))
    try:
        headline_of(found)
    except Exception:
        # It may be what the page failed on: the sections are shown without it.
        return [(product, {}) for product, _ in found]
    return found


def _makers(dag: Any, job: Any) -> dict[str, Any]:
    """The jobs that make the inputs of a job, by the paths."""
    return {str(path): maker for maker, paths in dag.dependencies[job].items() for path in paths}


def _is_there(dag: Any, makers: dict[str, Any], path: Path) -> bool:
    return _stands(dag, makers[str(path)]) and path.exists()


def _findings(dag: Any, job: Any, results: Path) -> list[dict[str, Any]]:
    """The findings in what there is of the products of a page."""
    makers = _makers(dag, job)
    there = [path for path in _paths(job.input.products) if _is_there(dag, makers, path)]
    try:
        return gathered((path for path in there if path.suffix in (".csv", ".json", ".parquet")), results)
    except Exception:  # a damaged file, which its own section tells of
        return []


def write_unfinished_overview(dag: Any, failed: Collection[Any], job: Any, summaries: dict[Path, dict]) -> None:
    """Write the pages of a job of `overview` that could not run.

    summaries: of the models and vectors whose pages are incomplete, by their path; the others' are read.
    """
    page, browser, makers = Path(job.output.page), Path(job.output.browser), _makers(dag, job)
    page.unlink(missing_ok=True)
    results = page.parent.parent
    models, pairs, vectors = (
        {path.stem: summaries.get(path) or _about(path, results) for path in _paths(given)}
        for given in (job.input.summaries, job.input.get("pairs", []), job.input.get("vectors", []))
    )
    series = about_series((path for path in _paths(job.input.get("series")) if path.exists()), results)
    there = [path for path in _paths(job.input.products) if _is_there(dag, makers, path)]
    products = [product for product, _ in _collected(dag, failed, job, results)]
    failures, others = _failures(dag, failed, job), {"pairs": pairs, "series": series, "vectors": vectors}
    write_index_page(browser, Path(job.output.data), models, products, there, failures, **others)
    _age(browser)
    _write(page, overview_page(models, products, failures, **others))


def _about(summary: Path, results: Path) -> dict[str, Any]:
    try:
        return dict(about(summary, results))
    except AtlasError:  # there is none, or it is what the overview failed on
        return {"headline": [], "findings": [], "page": None, "incomplete": True}


def _age(page: Path) -> None:
    os.utime(page, (LONG_AGO, LONG_AGO))


def _write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
        _age(temporary)


def _stands(dag: Any, job: Any) -> bool:
    return dag.finished(job) or not dag.needrun(job)


def _collected(dag: Any, failed: Collection[Any], job: Any, results: Path) -> Iterator[tuple[Product, Tables]]:
    makers = _makers(dag, job)
    for caption in _paths(job.input.captions):
        paths = [path for path in _paths(job.input.products) if path.is_relative_to(results / caption.stem)]
        lacking = [path for path in paths if not _is_there(dag, makers, path)]
        why = _cause(dag, failed, {makers[str(path)] for path in lacking}) if lacking else ""
        try:
            product, tables = product_of(caption, [path for path in paths if path not in lacking], results)
        except Exception as error:
            # Whatever is wrong with a file of one analysis, the others are shown.
            product, tables = Product(caption.stem, ""), {}
            why = f"{UNREADABLE}: {_one_line(str(error) or type(error).__name__)}"
        yield replace(product, missing=why), tables


def _paths(given: Any) -> list[Path]:
    """Snakemake gives a single file of a list as a string."""
    return [Path(path) for path in ([given] if isinstance(given, str) else given or [])]


def _cause(dag: Any, failed: Collection[Any], makers: Iterable[Any]) -> str:
    """Why what these jobs make is not there."""
    causes: dict[str, None] = {}
    for maker in makers:
        if maker in failed:
            causes[f"{_named(maker)} failed"] = None
            continue
        before = [job for job in _before(dag, maker) if job in failed]
        causes |= {f"{_named(maker)} waits for {_named(job)}, which failed": None for job in before}
        causes |= {} if before else {f"{_named(maker)} has not run": None}
    return "; ".join(sorted(causes))


def _failures(dag: Any, failed: Collection[Any], job: Any) -> Failures:
    """What failed of all that a job builds on; if nothing did, what stopped the run."""
    upstream = {each for each in _before(dag, job) if each in failed}
    what = "{} failed" if upstream else "the run was stopped, since {} failed"
    return [
        (what.format(_named(each)), last_words(Path(each.log[0]) if each.log else None))
        for each in sorted(upstream or failed, key=_named)
    ]


def _before(dag: Any, job: Any) -> list[Any]:
    """A job and all that it builds on."""
    found, queue = {job: None}, [job]
    while queue:
        for other in dag.dependencies[queue.pop()]:
            if other not in found:
                found[other] = None
                queue.append(other)
    return list(found)


def _named(job: Any) -> str:
    wildcards = ", ".join(str(value) for value in job.wildcards)
    return job.rule.name + (f" of {wildcards}" if wildcards else "")


def last_words(log: Path | None) -> str:
    """What a step's log ends with: its message, or else its last line."""
    try:
        with Path(log or "").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LOG_BYTES))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if _says_something(line)]
    except OSError:
        return "it left no log"
    begin = max((number for number, line in enumerate(lines) if line.startswith("error: ")), default=len(lines) - 1)
    return _one_line("; ".join(line.strip() for line in lines[max(begin, 0) :])) or "its log is empty"


def _says_something(line: str) -> bool:
    return bool(line.strip()) and not line.startswith("versions: ")  # which every log begins with


def _one_line(text: str) -> str:
    words = " ".join(text.split())
    return words if len(words) <= WORDS else f"{words[:WORDS]}..."


# By the steps that pages are made by: what writes one of a run that failed. A summary that is made goes to the last
# argument, for the pages over all models.
WRITERS = {
    "atlas": write_unfinished_page,
    "vector_page": write_unfinished_page,
    "overview": write_unfinished_overview,
}
