"""Where the workflow that belongs to this library lies: the clone that it is part of, or the installed wheel."""

from functools import cache
from pathlib import Path

import weight_atlas

LIBRARY = Path(weight_atlas.__file__).resolve().parent


@cache
def workflow_folder() -> Path:
    """The folder of Snakefile, rules and scripts: inside the package where a wheel brought it, else the clone's top."""
    installed = LIBRARY / "workflow_files"
    return installed if installed.is_dir() else LIBRARY.parents[1]
