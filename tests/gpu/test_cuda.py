"""All that runs on a GPU, against the CPU: `pytest -m gpu` on a machine that has one."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import weight_atlas as wa

sys.path.append(str(Path(__file__).parents[1] / "workflow"))  # where the copies of the workflow are made
from parsed_workflow import parsed_steps
from project import Project

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that this torch can use"),
]
several = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
IDS = torch.arange(3, 67)[None]


def logits(device: str, dtype: str = "float32") -> torch.Tensor:
    live = wa.open("bundled:demo", device=device, dtype=dtype).live[0]
    with torch.inference_mode():
        return live.model(input_ids=IDS.to(live.model.get_input_embeddings().weight.device)).logits.float().cpu()


def test_logits_are_those_of_the_cpu():
    torch.testing.assert_close(logits("cuda"), logits("cpu"), rtol=1e-3, atol=1e-3)


def test_the_type_is_chosen_for_the_device():
    live = wa.open("bundled:demo", device="cuda").live[0]
    assert next(live.model.parameters()).dtype == torch.bfloat16


@several
def test_several_gpus_share_the_layers_and_give_the_same_logits():
    live = wa.open("bundled:demo", device="cuda", dtype="float32").live[0]
    assert len({parameter.device for parameter in live.model.parameters()}) > 1
    torch.testing.assert_close(logits("cuda"), logits("cpu"), rtol=1e-3, atol=1e-3)


def test_spectra_are_those_of_the_cpu():
    """Within what the table says that they may be off by."""
    of_gpu, of_cpu = (wa.open("bundled:demo", device=device).spectra() for device in ("cuda", "cpu"))
    bounds = of_gpu["error_bound"] + of_cpu["error_bound"]
    for one, other, bound in zip(of_gpu["sigma"], of_cpu["sigma"], bounds, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=bound * other[0])


def test_every_step_that_asks_for_a_gpu_runs_on_it_and_says_what_the_cpu_says(tmp_path):
    """The default run, quick, and the same without a GPU."""
    runs = []
    for name, gpus in (("gpu", 1), ("cpu", 0)):
        project = Project.copy(tmp_path / name)
        project.start_snakemake("--resources", "gpu=1", "--config", "effort=quick", f"gpus={gpus}", timeout=3000)
        runs.append(project.folder)
    of_gpu = runs[0]
    asked = {name for name, rule in parsed_steps().items() if "gpu" in rule.resources}
    for name in asked - {"singular_values_part"}:  # of a model as small as this one
        for log in (of_gpu / "logs" / name).rglob("*.log"):
            assert re.search(r"^device: cuda \(leased ", log.read_text(), re.M), log
    verdicts = [json.loads((run / "results/super_weight_verification/demo.json").read_text()) for run in runs]
    assert verdicts[0].keys() == verdicts[1].keys()
    tables = [pd.read_csv(run / "results/ablation_perplexity/demo.csv") for run in runs]
    assert list(tables[0]["variant"]) == list(tables[1]["variant"])
    np.testing.assert_allclose(tables[0]["perplexity"], tables[1]["perplexity"], rtol=0.05)  # bfloat16 against float32
