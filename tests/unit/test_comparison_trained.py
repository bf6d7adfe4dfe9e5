"""The bundled model, trained on for some steps, merged with another such and beside a twin of fresh numbers."""

from pathlib import Path

import pytest
import torch
from compared_models import side, tables
from safetensors.torch import load_file, save_file
from test_comparison_lineage import Models, mixed

import weight_atlas
from weight_atlas.comparison.lineage import lineage

MODEL = Path(weight_atlas.__file__).parent / "data/demo/model"
pytestmark = pytest.mark.slow


def trained(seed, folder):
    """Save the bundled model after ten steps on numbers drawn at random, in bfloat16 as it is stored."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    for _ in range(10):
        tokens = torch.randint(0, 2048, (4, 64))
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.to(torch.bfloat16).save_pretrained(folder)
    return load_file(folder / "model.safetensors")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    one, two = (trained(seed, root / called) for seed, called in ((1, "one"), (2, "two")))
    random = torch.Generator().manual_seed(3)
    made = {"merge": mixed([(0.5, one), (0.5, two)])}
    made["twin"] = {
        key: (value.float().std() * torch.randn(value.shape, generator=random)).bfloat16() if value.ndim > 1 else value
        for key, value in one.items()
    }
    for called, tensors in made.items():
        (root / called).mkdir()
        save_file(tensors, root / called / "model.safetensors")
        (root / called / "config.json").write_bytes((MODEL / "config.json").read_bytes())
    return {"demo": MODEL, **{called: root / called for called in ("one", "two", "merge", "twin")}}


def test_a_fine_tune_is_derived_and_a_twin_unrelated(folders):
    demo = side(folders["demo"])
    tuned = tables(demo, side(folders["one"]))
    assert tuned.summary["relation"] == "derived"
    assert tuned.summary["whole"]["changed_share"] > 0.5 and tuned.summary["whole"]["sign_share"] < 0.1
    before, after = (load_file(folders[key] / "model.safetensors") for key in ("demo", "one"))
    row = tuned.table.set_index("id_a").loc["model.layers.2.mlp.down_proj.weight"]
    one, other = (tensors["model.layers.2.mlp.down_proj.weight"].double() for tensors in (before, after))
    assert row["relative"] == pytest.approx(float((other - one).norm() / one.norm()), rel=1e-9)
    assert tables(demo, side(folders["twin"])).summary["relation"] == "unrelated"


def test_the_lineage_of_all_is_told(folders, tmp_path):
    made = Models(tmp_path)
    profiles = [made.of(called, side(folder)) for called, folder in folders.items()]
    found = lineage(profiles)
    texts = [each["text"] for each in found.told]
    assert found.families == [["demo", "one", "two", "merge"], ["twin"]]
    # Both were trained alike, so that their distances do not tell which was first; that it is demo is said of no other.
    assert not any(" is a fine-tune of one" in text or " is a fine-tune of two" in text for text in texts)
    assert any(text.startswith(("one is a fine-tune of demo: ", "one and ")) for text in texts)
    assert any(text.startswith("merge is a merge: 0.50 one + 0.50 two, ") for text in texts)
    assert any(text.startswith("twin is unrelated to demo, though of the same shape: ") for text in texts)
