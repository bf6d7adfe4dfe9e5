"""Load tasks of lm-evaluation-harness: its own by name, those of a local folder, and a definition with local data."""

import difflib
import math
from collections.abc import Callable
from contextlib import chdir, nullcontext
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from weight_atlas.ablations.task_errors import broken_definition, explained
from weight_atlas.data_sets import data_sets_library
from weight_atlas.errors import AtlasError, located
from weight_atlas.paths import user_path

# The seeds of the harness's own command line: for the choice of worked examples, and for all else that is drawn.
FEWSHOT_SEED = 1234
PYTHON_SEED, NUMPY_SEED, TORCH_SEED = 0, 1234, 1234


def load_tasks(
    name: str, *, definition: Path | None = None, data: Path | None = None, folders: list[Path] | None = None,
    mirror: Path | None = None, trust_code: bool = False, fewshot: int | None = None, seed: int = FEWSHOT_SEED,
) -> dict[str, Any]:  # fmt: skip
    """Return a task as the harness's TaskManager gives it: {"tasks": {name: Task}, "groups": ...}, ready to be built.

    definition, data: a YAML file and the JSON lines of its test split, in place of a name. folders: where to look for
    the name instead of among the harness's own tasks. mirror: a folder that holds copies of data sets of the hub under
    their names (mirror/org/name). trust_code: whether functions that definitions in folders name may run; the
    harness's own may. fewshot: worked examples before each question; None leaves the task's own number.
    Raises AtlasError for an unknown name, for data that cannot be reached or may not be read, and for a definition that
    does not work.
    """
    _prepare()
    seed_everything()  # some tasks shuffle answers while they are loaded
    if definition is not None and data is not None:
        loaded = _from_definition(definition, data)
    else:
        loaded = _by_name(name, folders, mirror, trust_code)
    for task in loaded["tasks"].values():
        own = task.get_config("num_fewshot")
        # A task that is defined without examples stays without, as in the harness.
        if (fewshot is not None and own != 0) or own is None:
            task.set_config(key="num_fewshot", value=fewshot or 0)
        task.set_fewshot_seed(seed=seed)
        if aggregations := getattr(task, "_aggregation_list", None):
            task._aggregation_list = {metric: without_overflow(each) for metric, each in aggregations.items()}
    return loaded


def without_overflow(aggregation: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """An aggregation of the harness that returns infinity where it would end in OverflowError.

    A perplexity is one of words: a paragraph without spaces is a single word, whose loss soon exceeds 709 nats.
    """

    @wraps(aggregation)
    def bounded(items: Any) -> Any:
        try:
            return aggregation(items)
        except OverflowError:
            return math.inf

    return bounded


def seed_everything() -> None:
    """Set the global generators as the harness's command line does before it loads tasks and runs a model."""
    import random

    import numpy as np
    import torch

    random.seed(PYTHON_SEED)
    np.random.seed(NUMPY_SEED)
    torch.manual_seed(TORCH_SEED)


def definition_folders(name: str) -> list[str]:
    """Folders of the harness that define a task or group and its members, relative to the harness's own tasks.

    Reading these alone takes a fraction of the ten seconds for all. Raises AtlasError for an unknown name.
    """
    from lm_eval.tasks import TaskManager

    _prepare()
    manager = TaskManager()
    _check_known(name, manager, None)
    index, found, queue = manager.task_index, set(), [name]
    while queue:
        entry = index.get(queue.pop())
        if entry is None:
            continue
        if entry.yaml_path is not None:
            found.add(entry.yaml_path.parent.relative_to(_own_folder()).as_posix())
        members = list(entry.tags) if entry.kind.name == "TAG" else (entry.cfg or {}).get("task", [])
        queue += _names(members) if isinstance(members, list) else []
    return sorted(found)


def own_folders(relative: list[str]) -> list[Path]:
    """The paths of folders that definition_folders gave."""
    return [_own_folder() / folder for folder in relative]


def _names(members: list) -> list[str]:
    """Names of tasks and groups that a group's definition mentions, inline groups included."""
    names = []
    for member in members:
        if isinstance(member, str):
            names.append(member)
        else:
            names += [member[key] for key in ("task", "group") if isinstance(member.get(key), str)]
            names += _names(member["task"]) if isinstance(member.get("task"), list) else []
    return names


def _own_folder() -> Path:
    from lm_eval import tasks

    return Path(tasks.__file__).parent


def _from_definition(definition: Path, data: Path) -> dict[str, Any]:
    import yaml
    from lm_eval.tasks import TaskManager

    settings = yaml.safe_load(definition.read_text(encoding="utf-8"))
    # A cache of its own: the shared one recognises a file by name and time, not by content.
    with TemporaryDirectory() as cache:
        files = {"data_files": {"test": str(data.resolve())}, "cache_dir": cache, "keep_in_memory": True}
        return TaskManager(include_defaults=False).load([{**settings, "dataset_kwargs": files}])


def _by_name(name: str, folders: list[Path] | None, mirror: Path | None, trust_code: bool) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    from weight_atlas.ablations.untrusted import only_data

    folders = folders and [user_path(str(folder)) for folder in folders]
    mirror = mirror and user_path(str(mirror))
    for folder in [*(folders or []), *([mirror] if mirror else [])]:
        if not Path(folder).is_dir():
            raise AtlasError("the folder does not exist", where=folder, remedy=f"check the settings of task {name}")
    strange = [] if trust_code else [path for path in folders or [] if not path.is_relative_to(_own_folder())]
    with only_data(strange) if strange else nullcontext(), located(strange[0]) if strange else nullcontext():
        manager = TaskManager(
            include_path=[str(Path(folder).resolve()) for folder in folders or []] or None, include_defaults=not folders
        )
        _check_known(name, manager, folders)
        try:
            # The data sets library looks for org/name below the working directory before it asks the hub.
            with chdir(mirror) if mirror else nullcontext():
                return manager.load([name])
        except AtlasError:
            raise
        except Exception as error:
            # Hub, network, file system and templates each raise types of their own through the data sets library.
            raise explained(name, error) from error


def _check_known(name: str, manager: Any, folders: list[Path] | None) -> None:
    if name in manager.task_index:
        return
    broken = broken_definition(name, folders or [])
    if broken is not None:
        raise broken
    near = difflib.get_close_matches(name, map(str, manager.all_tasks), n=3, cutoff=0.5)
    raise AtlasError(
        f"there is no task {name!r}",
        where=", ".join(map(str, folders)) if folders else "lm-evaluation-harness",
        remedy=f"did you mean {' or '.join(near)}?" if near else "lm-eval ls tasks lists the names",
    )


def _prepare() -> None:
    """Keep the harness and the data sets library from filling the log, and from doing the same again."""
    import logging

    from lm_eval import utils

    from weight_atlas.ablations.untrusted import Templates

    data_sets_library()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    if not isinstance(utils.env, Templates):
        templates = Templates(undefined=utils.env.undefined, keep_trailing_newline=True)
        templates.filters |= utils.env.filters
        utils.env = templates
