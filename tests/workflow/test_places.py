"""A checkout that cannot be written, with a name that shells and formats stumble over, run from elsewhere."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest
from project import SNAKEMAKE, Project, digests

pytestmark = pytest.mark.slow


@pytest.fixture
def place():
    """A folder that goes whatever rights are left in it."""
    folder = Path(tempfile.mkdtemp(prefix="weight-atlas-places-"))
    yield folder
    subprocess.run(["chmod", "-R", "u+w", folder], check=True)
    shutil.rmtree(folder)


def test_a_read_only_checkout_with_an_odd_name_serves_another_directory(place, small):
    checkout, work = place / "sp ace é'q $(x) 模型/atlas", place / "wörk & more"
    project = Project.small(checkout)
    work.mkdir()
    for part in ("model", "texts", "small.yaml"):
        shutil.move(checkout / part, work / part)
    subprocess.run(["chmod", "-R", "a-w", checkout], check=True)
    before = digests(checkout)
    command = [SNAKEMAKE, "--cores", "2", "--snakefile", checkout / "Snakefile", "--configfile", "small.yaml"]
    home = {"HOME": str(work), "XDG_CACHE_HOME": str(work / "cache"), "NUMBA_CACHE_DIR": str(work / "numba")}
    if os.geteuid() == 0:  # whom rights stop only without this capability
        command = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override", *command]
    done = subprocess.run(
        [*map(str, command), "--", "effective_ranks"],
        **{"cwd": work, "env": project.environment | home, "capture_output": True, "text": True, "check": False},
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert digests(work / "results/effective_rank") == digests(small.folder / "results/effective_rank")
    assert digests(checkout) == before
