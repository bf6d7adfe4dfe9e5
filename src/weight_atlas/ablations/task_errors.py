"""Errors of a task of the harness, in its data, its definition or its templates, each as one message."""

import re
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from weight_atlas.errors import AtlasError

# How the data sets library says it; the hub's own client has a type for it.
GATED = re.compile(r"\bis a gated (dataset|repo)|\bgated repo\b|access to .* is restricted", re.IGNORECASE)
# Types of failed connections: Python's, requests', httpx', the hub's and the data sets library's, by name.
CONNECTION = (
    "ConnectionError", "ConnectError", "ConnectTimeout", "ReadTimeout", "Timeout", "TimeoutError", "HTTPError",
    "HTTPStatusError", "HfHubHTTPError", "RepositoryNotFoundError", "LocalEntryNotFoundError", "OfflineModeIsEnabled",
    "DatasetNotFoundError", "SSLError", "ProxyError",
)  # fmt: skip
MIRROR = "to a folder that holds a copy of the data set under its name on the hub"


def explained(name: str, error: Exception) -> AtlasError:
    """The error of a task that could not be loaded, as one message with what to do about it."""
    links = list(_chain(error))
    kinds = [type(link).__name__ for link in links]
    text = _line(error)
    if "GatedRepoError" in kinds or any(GATED.search(str(link)) for link in links):
        return AtlasError(
            f"the data of task {name} is gated: {text}",
            where=name,
            remedy="ask for access on the data set's page of the hub, then log in (hf auth login) or set HF_TOKEN",
        )
    if isinstance(error, ModuleNotFoundError):
        return AtlasError(
            f"task {name} needs the Python package {error.name}", where=name, remedy=f"install {error.name}"
        )
    if any(kind in CONNECTION for kind in kinds):
        return AtlasError(
            f"the data of task {name} cannot be reached: {text}",
            where=name,
            remedy="check the network; without one, fill the cache of data sets before (HF_HOME), or set `mirror` of "
            f"this task {MIRROR}",
        )
    # What is no name on the hub was meant as a path.
    if "HFValidationError" in kinds or any(isinstance(link, FileNotFoundError) for link in links):
        return AtlasError(
            f"a file of task {name} is missing: {text}",
            where=name,
            remedy="check the paths in its definition; relative ones are relative to the working directory, or to "
            "`mirror` where it is set",
        )
    if _from_file(links[-1], "dataset_dict.py"):
        return AtlasError(
            f"the data of task {name} has no split {text}",
            where=name,
            remedy="check training_split, validation_split, test_split and data_files in its definition",
        )
    if any("BuilderConfig" in str(link) for link in links):
        return AtlasError(
            f"the data of task {name} has no such part: {text}",
            where=name,
            remedy="check dataset_name in its definition; a copy of the data set in `mirror` needs its README.md, in "
            "which the parts are listed",
        )
    if any(kind.startswith("DatasetGeneration") or kind.startswith("Arrow") for kind in kinds):
        return AtlasError(
            f"the data of task {name} cannot be read: {_line(links[-1])}",
            where=name,
            remedy="check that the files are whole and of the type that dataset_path says",
        )
    return not_built(name, error)


def not_built(name: str, error: Exception, task: Any = None) -> AtlasError:
    """The error of a task whose definition does not work, or does not fit its documents.

    task: the loaded task, where it got as far as its requests.
    """
    links, wanted = list(_chain(error)), None if task is None else task.config.num_fewshot
    if wanted:
        # A question is no example of itself.
        own = task.fewshot_cfg.split is None or task.fewshot_cfg.split == task.config.test_split
        available = len(list(task.fewshot_docs())) - own
        if wanted > available:
            return AtlasError(
                f"task {name} has {available} documents to take {wanted} worked examples from",
                where=name,
                remedy=f"set `fewshot` of this task to {available} or less",
            )
    if any(type(link).__module__.startswith("jinja2") for link in links):
        return AtlasError(
            f"a template of task {name} does not work: {_line(error)}",
            where=name,
            remedy="check doc_to_text, doc_to_choice and doc_to_target against the columns of its data",
        )
    if "did not find any docs" in str(error):
        return AtlasError(f"task {name} has no documents", where=name, remedy="check the files that hold its data")
    return AtlasError(
        f"task {name} does not work: {type(error).__name__}: {_line(error)}",
        where=name,
        remedy="check its definition against the columns of its data: lm-eval validate --tasks",
    )


def broken_definition(name: str, folders: Iterable[Path]) -> AtlasError | None:
    """The error of a definition that mentions a task but cannot be read; the harness passes such files over."""
    from lm_eval.tasks._yaml_loader import load_yaml

    for path in sorted(path for folder in folders for path in Path(folder).rglob("*.yaml")):
        if re.search(rf"\b{re.escape(name)}\b", path.stem + " " + path.read_text(encoding="utf-8", errors="replace")):
            try:
                load_yaml(path, resolve_func=False, recursive=True)
            except Exception as error:
                # Broken YAML, a missing include and an include of itself are of three types.
                return AtlasError(
                    f"the definition of task {name} cannot be read: {' '.join(str(error).split())}",
                    where=path,
                    remedy="mend the YAML",
                )
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, the one behind it, and so on; what was being handled counts unless it was set aside (`from None`)."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)


def _line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _from_file(error: BaseException, name: str) -> bool:
    frames = traceback.extract_tb(error.__traceback__)
    return isinstance(error, KeyError) and bool(frames) and Path(frames[-1].filename).name == name
