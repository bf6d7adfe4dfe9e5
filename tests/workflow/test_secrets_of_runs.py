"""Tokens of hubs during whole runs: in no argument list, no log, no script of a job and no artifact."""

import sys
from pathlib import Path

import pytest
import yaml
from argument_lists import argument_lists_with, files_with
from project import SNAKEMAKE, Project
from test_command_line import run

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from standin_hub import COMMIT, Repository, standin_hub
from streamed_models import demo_files

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")]

TOKEN = "hf_plantedplantedplantedplantedplanted"
ANALYSES = ["architecture_summary", "effective_rank"]


@pytest.fixture
def hub(tmp_path):
    files = {
        f"org/{name}": Repository(demo_files(shards), token=TOKEN) for name, shards in (("whole", 1), ("parts", 3))
    }
    with standin_hub(files) as hub:
        hub.variables = {
            "HF_ENDPOINT": hub.endpoint, "MODELSCOPE_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"),
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "TMPDIR": str(tmp_path / "temporary"),
        }  # fmt: skip
        (tmp_path / "temporary").mkdir()
        yield hub


def test_a_token_is_seen_nowhere_in_a_verbose_run(hub, tmp_path):
    project = Project.copy(tmp_path / "project")
    models = {
        "whole": {"source": "hf://org/whole", "revision": COMMIT},
        "parts": {"source": "hf://org/parts", "revision": COMMIT, "stream": True},
        "other": {"source": "ms://org/whole", "revision": "master"},
    }
    config = {"models": {name: {**entry, "analyses": ANALYSES} for name, entry in models.items()}}
    config |= {"tokenizers": {"apart": {"source": "hf://org/whole", "revision": COMMIT}}, "stream_part": {"parts": 2}}
    (project.folder / "config.yaml").write_text(yaml.safe_dump(config))
    project.environment |= {**hub.variables, "HF_TOKEN": TOKEN, "MODELSCOPE_API_TOKEN": TOKEN}
    arguments = ("--verbose", "--configfile", "config.yaml")
    with argument_lists_with(TOKEN, SNAKEMAKE.parent) as seen:
        done = project.start_snakemake(*arguments)
        project.environment |= {"HF_TOKEN": f"{TOKEN}-wrong"}
        refused = project.start_snakemake(*arguments, "--forcerun", "fetch_checkpoint", check=False)
    assert refused.returncode == 1 and "HF_TOKEN" in refused.stdout + refused.stderr
    assert len(seen.processes) > 3 and not seen.shown
    assert TOKEN not in "".join((done.stdout, done.stderr, refused.stdout, refused.stderr))
    assert not files_with(TOKEN, tmp_path)
    assert hub.headers_of("/api/models/")[0]["authorization"] == f"Bearer {TOKEN}"


def test_nor_in_a_run_by_the_command(hub, tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    with argument_lists_with(TOKEN, SNAKEMAKE.parent) as seen:
        done = run(
            work, "scan", "org/whole", "--methods", "effective_rank", "--verbose", **hub.variables, HF_TOKEN=TOKEN
        )
    assert done.returncode == 0, done.stderr
    assert seen.processes and not seen.shown and TOKEN not in done.stdout + done.stderr
    assert not files_with(TOKEN, tmp_path)
