"""No secret of the environment is in what Snakemake says."""

import logging
from types import SimpleNamespace

import pytest

from weight_atlas.workflow.secrets import WithoutSecrets

TOKEN = "hf_plantedplantedplanted"
ENVIRONMENT = {
    "HF_TOKEN": TOKEN, "MODELSCOPE_API_TOKEN": "ms-planted/+(1)", "SNAKEMAKE_STORAGE_S3_SECRET_KEY": f"{TOKEN}more",
    "SNAKEMAKE_STORAGE_S3_ACCESS_KEY": "AKIAPLANTED", "OPENAI_API_KEY": "sk-planted", "GITHUB_TOKEN": "short",
    "HOME": "/home/somebody", "TOKENIZERS_PARALLELISM": "parallel",
}  # fmt: skip


@pytest.fixture
def said(caplog):
    logger = logging.getLogger("of this test")
    logger.addFilter(hides := WithoutSecrets(ENVIRONMENT))
    with caplog.at_level(logging.DEBUG, logger.name):
        yield lambda *record: logger.debug(*record) or caplog.messages[-1]
    logger.removeFilter(hides)


def test_secrets_are_hidden_and_nothing_else(said):
    shown = said(f"environment: {ENVIRONMENT}")
    assert "planted" not in shown.lower() and "more" not in shown and shown.count("***") == 5
    assert "short" in shown and "/home/somebody" in shown and "parallel" in shown
    assert said("%s of %s", TOKEN, "x") == "*** of x"
    assert said("100 % of %r") == "100 % of %r" and said(None) == "None"


def test_without_secrets_records_stay(caplog):
    record = logging.LogRecord("x", logging.INFO, "", 0, "a %s", ("b",), None)
    assert WithoutSecrets({"HOME": TOKEN}).filter(record) and record.args == ("b",)


def test_the_environment_that_a_job_of_slurm_prints(said, monkeypatch):
    """By the executor that runs it."""
    jobstep = pytest.importorskip("snakemake_executor_plugin_slurm_jobstep")
    monkeypatch.setattr("os.environ", ENVIRONMENT)
    printed = []
    logger = SimpleNamespace(debug=lambda text: printed.append(said(text)))
    jobstep.Executor.__post_init__(SimpleNamespace(logger=logger))
    assert printed and "/home/somebody" in printed[0] and "planted" not in printed[0].lower()
