"""A tiny model in shards on a stand-in hub, and its steps run in this process: as a local folder, and streamed."""

import json
import os
import runpy
from contextlib import contextmanager
from pathlib import Path

from standin_hub import Repository, ask_instead, in_shards, standin_hub

from weight_atlas.checkpoint.source import bundled
from weight_atlas.settings.models import CheckpointSpec, Spooled
from weight_atlas.settings.quantization import QuantizationSensitivity
from weight_atlas.settings.spectra import AttentionKernel
from weight_atlas.settings.super_weights import SuperWeightScreening
from weight_atlas.settings.weights import MatrixWindows, Sparsity, WeightProfile
from weight_atlas.streamed.tables import STEPS

ROOT = Path(__file__).parents[2]
SOURCE = "hf://org/model"
SETTINGS = {
    "attention": AttentionKernel(fold_norm=True),
    "quantization": QuantizationSensitivity(schemes=["int8/tensor", "int4/group:32"], drawn=[]),
    "screening": SuperWeightScreening(),
    "sparsity": Sparsity(near_rows_budget=1e8),
    "windows": MatrixWindows(windows=["W_Q:first@0:8,0:8", "W_down:last@3:5,1:9"]),
}


def demo_files(shards: int) -> dict[str, bytes]:
    files = {path.name: path.read_bytes() for path in bundled("demo").iterdir() if path.is_file()}
    return files | in_shards(files.pop("model.safetensors"), shards) if shards > 1 else files


def tiny_files(shards: int, *, scattered: bool = False) -> dict[str, bytes]:
    """A model of two layers, in shards of neighbouring tensors or of such from all over it."""
    import torch
    from safetensors.torch import save

    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 2000,
        "tie_word_embeddings": False,
    }  # fmt: skip
    shapes = {"model.embed_tokens": (2000, 64), "lm_head": (2000, 64), "model.norm": (64,)}
    for layer in range(2):
        inside = {
            "self_attn.q_proj": (64, 64), "self_attn.k_proj": (32, 64), "self_attn.v_proj": (32, 64),
            "self_attn.o_proj": (64, 64), "mlp.gate_proj": (96, 64), "mlp.up_proj": (96, 64),
            "mlp.down_proj": (64, 96), "input_layernorm": (64,), "post_attention_layernorm": (64,),
        }  # fmt: skip
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in inside.items()}
    drawn = torch.Generator().manual_seed(0)
    tensors = {f"{name}.weight": torch.randn(shape, generator=drawn).bfloat16() for name, shape in shapes.items()}
    return {"config.json": json.dumps(config).encode()} | in_shards(save(tensors), shards, scattered=scattered)


@contextmanager
def hub_of(files: dict[str, bytes], monkeypatch, cache: Path, **options):
    """A stand-in hub with one repository, which huggingface_hub in this process asks; no waits between tries."""
    with standin_hub({"org/model": Repository(files, **options)}) as hub:
        ask_instead(hub.endpoint, monkeypatch, cache)
        hub.waits = []
        monkeypatch.setattr("weight_atlas.checkpoint.transfer.time.sleep", hub.waits.append)
        yield hub


def step(name: str, *inputs, **options) -> None:
    """Run the main() of a script."""
    runpy.run_path(str(ROOT / f"scripts/{name}.py"))["main"](*inputs, **options)


def fetched(folder: Path, source: str, spool_gb: float = 10.0, **spec) -> tuple[Path, Path]:
    """Manifest and inventory of a model."""
    manifest, inventory = folder / "checkpoint.json", folder / "inventory.parquet"
    settings = CheckpointSpec(source=source, spool_gb=spool_gb, **spec)
    step("fetch_checkpoint", manifest=manifest, settings=settings)
    step("tensor_inventory", manifest, table=inventory, settings=settings)
    return manifest, inventory


def streamed_parts(folder: Path, made: tuple[Path, Path], count: int, spool_gb: float = 10.0, steps=None):
    """Run all parts of a streamed model; the paths of their tables, by name."""
    steps = sorted(set(STEPS.values())) if steps is None else steps
    found = {name: [folder / f"{number}/{name}.parquet" for number in range(count)] for name in STEPS}
    for number in range(count):
        tables = {name: paths[number] for name, paths in found.items()}
        options = {"scatteritem": f"{number + 1}-of-{count}", "steps": steps, "spooled": Spooled(spool_gb=spool_gb)}
        step("stream_part", *made, **tables, record=folder / f"{number}.json", **options, **SETTINGS)
    return found


def products(folder: Path, made: tuple[Path, Path], parts: dict[str, list[Path]] | None = None) -> dict[str, bytes]:
    """What the steps that look at weights write, by file: of a local folder, or of the parts of a streamed model."""
    given = parts or dict.fromkeys(STEPS)
    out = {name: folder / name for name in ("histograms.parquet", "profiles.parquet", "kernels.parquet")}
    step("value_histogram", *made, given["histograms"], given["profiles"], table=out["histograms.parquet"],
         profile=out["profiles.parquet"], left_out=folder / "left_out.csv")  # fmt: skip
    step("attention_kernel", *made, given["kernels"], table=out["kernels.parquet"], settings=SETTINGS["attention"])
    if not parts:
        step("singular_values_part", *made, part=folder / "part.parquet", scatteritem="1-of-1")
    spectra = given["spectra"] or [folder / "part.parquet"]
    step("singular_values", spectra, made[1], table=folder / "spectra.parquet")
    names = ("tensors.csv", "of_schemes.csv", "of_layers.csv", "of_channels.csv")
    tables = {name.split(".")[0]: folder / name for name in names}
    figures = {name: folder / f"q_{name}.png" for name in ("figure", "schemes_figure", "channels_figure")}
    step("quantization_sensitivity", *made, out["histograms.parquet"], given["errors"], given["channels"],
         table=folder / "errors.parquet", **tables, **figures, settings=SETTINGS["quantization"])  # fmt: skip
    step("super_weight_screening", *made, given["screened"], table=folder / "screening.csv",
         figure=folder / "screening.png", settings=SETTINGS["screening"])  # fmt: skip
    step("sparsity", *made, out["histograms.parquet"], out["profiles.parquet"], given["structures"],
         table=folder / "sparsity.csv", curve=folder / "curve.csv", experts=folder / "experts.csv",
         figure=folder / "sparsity.png", settings=SETTINGS["sparsity"])  # fmt: skip
    figures = {name: folder / f"p_{name}.png" for name in ("figure", "norms", "maps", "zooms")}
    step("weight_profile", *made, out["profiles.parquet"], given["window_values"], table=folder / "profile.csv",
         channels=folder / "outliers.csv", **figures,
         settings=WeightProfile(windows=SETTINGS["windows"].windows))  # fmt: skip
    (folder / "part.parquet").unlink(missing_ok=True)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def local(folder: Path, files: dict[str, bytes]) -> tuple[Path, Path]:
    """Manifest and inventory of the same files in a folder."""
    (folder / "model").mkdir(parents=True)
    for name, body in files.items():
        (folder / "model" / name).write_bytes(body)
    return fetched(folder, os.fspath(folder / "model"))
