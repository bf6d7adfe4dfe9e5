"""A wheel works away from the clone: library, command and workflow."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from project import ROOT

pytestmark = pytest.mark.slow

ANALYSE = """
import weight_atlas as wa
model = wa.open("bundled:demo")
print(wa.__file__, len(model.effective_rank()))
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The Python of an environment that has the wheel, and sees this one's other packages."""
    folder = tmp_path_factory.mktemp("wheel")
    ignored = shutil.ignore_patterns(
        ".git", ".venv", ".snakemake", "results", "logs", "__pycache__", "names", ".*_cache"
    )
    shutil.copytree(ROOT, folder / "clone", ignore=ignored)
    build = [sys.executable, "-m", "hatchling", "build", "-d", folder / "dist"]
    subprocess.run(build, cwd=folder / "clone", check=True, capture_output=True)
    shutil.rmtree(folder / "clone")
    assert list((folder / "dist").glob("*.tar.gz"))
    (wheel,) = (folder / "dist").glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv/bin/python"
    (site,) = (folder / "venv").glob("lib/python3*/site-packages")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True, capture_output=True)
    others = [sysconfig.get_path("purelib"), *(path for path in sys.path if path.endswith("site-packages"))]
    (site / "others.pth").write_text("\n".join(dict.fromkeys(others)))
    return python


def run(*command, cwd):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_api_and_a_step_of_an_installed_wheel(installed, tmp_path):
    file, matrices = run(installed, "-c", ANALYSE, cwd=tmp_path).split()
    assert Path(file).is_relative_to(installed.parents[1])
    assert int(matrices) == 30
    arguments = ["--manifest", "manifest.json", "--source", "bundled:demo"]
    run(installed.with_name("weight-atlas"), "run", "fetch_checkpoint", *arguments, cwd=tmp_path)
    assert (tmp_path / "manifest.json").is_file()


def test_the_command_and_its_live_view_of_an_installed_wheel(installed, tmp_path):
    run(installed.with_name("weight-atlas"), "scan", "bundled:demo", "--dry-run", cwd=tmp_path)
    said = run(installed, "-c", "import snakemake_logger_plugin_weight_atlas as own; print(own.__file__)", cwd=tmp_path)
    assert Path(said.strip()).is_relative_to(installed.parents[1])


def test_the_workflow_of_an_installed_wheel_makes_a_result_in_the_current_folder(installed, tmp_path):
    snakefile = run(installed.with_name("weight-atlas"), "snakefile", cwd=tmp_path).strip()
    assert Path(snakefile).is_relative_to(installed.parents[1])
    target = "results/tensor_inventory/demo.parquet"
    run(installed, "-m", "snakemake", "--snakefile", snakefile, "--cores", "1", target, cwd=tmp_path)
    assert (tmp_path / target).is_file()
