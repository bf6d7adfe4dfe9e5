"""Checkpoints that were saved from inside a wrapper: read under the model's own names."""

import pytest
import torch
from safetensors.torch import save_file

from weight_atlas.artifacts import write_json
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.fetch import make_manifest
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.settings.models import CheckpointSpec

TENSORS = {
    "model.embed_tokens.weight": torch.arange(8.0).reshape(4, 2),
    "model.layers.0.mlp.down_proj.weight": torch.ones(2, 3),
    "lm_head.weight": torch.zeros(4, 2),
}


def opened(folder, names, *, file="model.safetensors", **given):
    """A checkpoint of TENSORS under other names, opened from its manifest."""
    folder.mkdir(exist_ok=True)
    stored = dict(zip(names, TENSORS.values(), strict=True))
    if file.endswith((".pt", ".ckpt")):
        torch.save({"state_dict": stored, "step": 3}, folder / file)
    else:
        save_file(stored, folder / file)
    write_json(folder / "manifest.json", make_manifest(CheckpointSpec(source=str(folder / file), **given)))
    return open_checkpoint(folder / "manifest.json")


@pytest.mark.parametrize("file", ["model.safetensors", "last.pt", "last.ckpt"])
@pytest.mark.parametrize(
    "before",
    ["_orig_mod.", "module.", "module._orig_mod.", "model.", "net._fsdp_wrapped_module.", "_forward_module.model."],
)
def test_wrappers_are_taken_off_and_named(tmp_path, capsys, file, before):
    checkpoint = opened(tmp_path, [before + name for name in TENSORS], file=file)
    assert sorted(checkpoint.entries) == sorted(TENSORS)
    assert all(torch.equal(checkpoint.read(name), tensor) for name, tensor in TENSORS.items())
    assert torch.equal(
        checkpoint.read("model.embed_tokens.weight", slice(1, 3)), TENSORS["model.embed_tokens.weight"][1:3]
    )
    assert f"taken off 3 of 3 names: {before}" in capsys.readouterr().out


def test_wrappers_of_some_modules_are_taken_off_too(tmp_path):
    names = [name.replace("mlp", "_checkpoint_wrapped_module.mlp._orig_mod") for name in TENSORS]
    assert sorted(opened(tmp_path, names).entries) == sorted(TENSORS)


def test_names_without_a_wrapper_stay(tmp_path, capsys):
    checkpoint = opened(tmp_path, list(TENSORS))
    assert (sorted(checkpoint.entries), checkpoint.renamed) == (sorted(TENSORS), "")
    assert "taken off" not in capsys.readouterr().out


def test_the_counter_of_weight_averaging_is_no_part_of_the_model(tmp_path, capsys):
    model = torch.nn.Sequential(torch.nn.Linear(2, 3))
    averaged = torch.optim.swa_utils.AveragedModel(model)
    torch.save(averaged.state_dict(), tmp_path / "swa.pt")
    write_json(tmp_path / "manifest.json", make_manifest(CheckpointSpec(source=str(tmp_path / "swa.pt"))))
    assert sorted(open_checkpoint(tmp_path / "manifest.json").entries) == ["0.bias", "0.weight"]
    assert "1 of 3 tensors stand outside of the model" in capsys.readouterr().out


def test_two_tensors_of_one_name_are_an_error(tmp_path):
    names = ["model.norm.weight", "module.model.norm.weight", "lm_head.weight"]
    with pytest.raises(AtlasError, match=r"are both model\.norm\.weight(.|\n)*`prefix`"):
        opened(tmp_path, names)


def test_a_prefix_chooses_one_model_of_several(tmp_path, capsys):
    student, teacher = (
        {f"{who}.{name}": t * k for name, t in TENSORS.items()} for who, k in (("student", 1), ("teacher", 2))
    )
    save_file(student | teacher, tmp_path / "model.safetensors")
    write_json(tmp_path / "manifest.json", make_manifest(CheckpointSpec(source=str(tmp_path), prefix="teacher")))
    checkpoint = open_checkpoint(tmp_path / "manifest.json")
    assert sorted(checkpoint.entries) == sorted(TENSORS)
    assert all(torch.equal(checkpoint.read(name), 2 * tensor) for name, tensor in TENSORS.items())
    assert "3 of 6 tensors stand outside of the model" in capsys.readouterr().out


def test_a_prefix_that_no_name_has_is_an_error(tmp_path):
    save_file(TENSORS, tmp_path / "model.safetensors")
    with pytest.raises(AtlasError, match=r"prefix 'student\.'(.|\n)*begin with: lm_head, model"):
        Checkpoint.from_folder(tmp_path, prefix="student.")


def test_flat_parameters_of_fsdp_are_refused(tmp_path):
    save_file({"_fsdp_wrapped_module._flat_param": torch.ones(9)}, tmp_path / "model.safetensors")
    with pytest.raises(AtlasError, match=r"FSDP(.|\n)*FULL_STATE_DICT"):
        Checkpoint.from_folder(tmp_path)


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 123456\n"


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "model.gguf", "tokenizer.json", "config.json", "tokenizer.model",
             "model.safetensors.index.json"],
)  # fmt: skip
def test_a_git_lfs_pointer_is_named(tmp_path, name):
    if not name.startswith(("model.", "pytorch")):
        save_file(TENSORS, tmp_path / "model.safetensors")
    (tmp_path / name).write_text(POINTER)
    for attempt in (
        lambda: make_manifest(CheckpointSpec(source=str(tmp_path))),
        lambda: Checkpoint.from_folder(tmp_path),
    ):
        with pytest.raises(AtlasError, match=rf"git-lfs pointer.*{name}(.|\n)*git lfs pull"):
            attempt()


def test_pointers_in_place_of_files_that_are_not_read_are_no_obstacle(tmp_path):
    """What `git lfs pull --include "*.safetensors"` leaves of a repository with several formats."""
    save_file(TENSORS, tmp_path / "model.safetensors")
    for name in ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.gguf", "consolidated.safetensors"):
        (tmp_path / name).write_text(POINTER)
    files = make_manifest(CheckpointSpec(source=str(tmp_path)))["files"]
    assert [file["name"] for file in files] == ["model.safetensors"]
    assert set(Checkpoint.from_folder(tmp_path).entries) == set(TENSORS)
    with pytest.raises(AtlasError, match=r"git-lfs pointer.*pytorch_model\.bin"):
        make_manifest(CheckpointSpec(source=str(tmp_path / "pytorch_model.bin")))
