"""A stand-in for conda: of its commands those that Snakemake calls, without packages to download.

An environment is a virtual environment of this Python with the libraries that are installed here. It keeps the file
that it was made of, and which environments were activated is written down.
"""

import sys
from pathlib import Path

COMMAND = """\
#!{python}
import json, pathlib, shutil, sys, venv
said = sys.argv[1:]
if said[:2] == ["env", "create"]:
    file, prefix = (said[said.index(option) + 1] for option in ("--file", "--prefix"))
    venv.create(prefix, with_pip=False)
    packages = next(pathlib.Path(prefix).glob("lib/python*/site-packages"))
    (packages / "installed.pth").write_text({packages!r})
    shutil.copy(file, pathlib.Path(prefix) / "made-of.yaml")
else:
    answers = {{
        "info": json.dumps({{"conda_prefix": {prefix!r}, "platform": "linux-64"}}),
        "--version": "conda 25.1.0",
        "clean": "",
        "config": json.dumps({{"get": {{"channel_priority": "strict"}}}}),
    }}
    print(answers[said[0]])
"""
ACTIVATE = """\
echo "$1" >> {log}
export PATH="$1/bin:$PATH" CONDA_PREFIX="$1"
"""


class Conda:
    """Put `path` in front of PATH."""

    def __init__(self, folder: Path):
        self.path, self._log = folder / "bin", folder / "activated"
        self.path.mkdir(parents=True)
        packages = "\n".join(path for path in sys.path if path.endswith("site-packages"))
        made = COMMAND.format(python=sys.executable, packages=packages, prefix=str(folder))
        for name, text in {"conda": made, "activate": ACTIVATE.format(log=self._log)}.items():
            (self.path / name).write_text(text)
            (self.path / name).chmod(0o755)

    def activated(self) -> list[Path]:
        """The environments that commands ran in, in their order."""
        return [Path(line) for line in self._log.read_text().splitlines()]
