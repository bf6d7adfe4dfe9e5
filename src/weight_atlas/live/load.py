"""Load a checkpoint as a causal language model that can be run, with its anatomy and its tokenizer."""

from pathlib import Path
from typing import Any

import torch

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.errors import AtlasError
from weight_atlas.families.inventory import check_against_config, inventory
from weight_atlas.live.anatomy import Anatomy, anatomy
from weight_atlas.live.language_model import LanguageModel
from weight_atlas.live.memory import out_of_memory_explained
from weight_atlas.live.model_class import causal_class, loading_explained
from weight_atlas.settings.models import Live
from weight_atlas.tokens.tokenizer import load_tokenizer

_RUN_ELSEWHERE = "take a whole checkpoint of the model, or switch off the analyses of this model that run it"


def open_live(
    manifest: Path, running: Live, *, device: str = "cpu", attention: str | None = None
) -> tuple[Anatomy, Any]:
    """Load the model that a manifest describes, and the tokenizer beside it; device, attention: see load_model."""
    return live_model(open_checkpoint(manifest), running, device=device, attention=attention)


def live_model(
    checkpoint: Checkpoint, running: Live, *, device: str = "cpu", attention: str | None = None
) -> tuple[Anatomy, Any]:
    """Like open_live, for a checkpoint that is already open."""
    own_code = running.trust_remote_code
    tokenizer = load_tokenizer(checkpoint.folder, trust_remote_code=own_code)
    model = load_model(checkpoint, device=device, dtype=running.dtype, trust_remote_code=own_code, attention=attention)
    refuse_ids_beyond(model, tokenizer, checkpoint.folder)
    return anatomy(model, checkpoint.family), tokenizer


def load_model(
    checkpoint: Checkpoint,
    *,
    trust_remote_code: bool,
    device: str = "cpu",
    dtype: str,
    attention: str | None = None,
) -> LanguageModel:
    """Load the causal language model of a checkpoint, in evaluation mode, ready for forward passes.

    checkpoint: its tensors, read by its own reader, are what the model gets, whatever else lies in its folder. dtype:
    "auto" computes in bfloat16 on CUDA and in float32 on a CPU, where 16-bit arithmetic is several times slower. A
    model spreads over all CUDA devices that this process sees if they are several. attention: transformers' attention
    implementation, by default its own choice; "eager" where attention weights are asked for.

    Afterwards stored and live tensors are compared, and it is printed. Raises NotApplicable for a model without a
    causal language-model head, AtlasError for weights that are missing from the checkpoint (they would be random), that
    have another shape, that the model has no place for or that are not what it holds, and for lack of memory.
    """
    from transformers.utils import logging

    from weight_atlas.live.stored_tensors import compare, keep_padding_rows, stored_tensors

    checkpoint.require_values()
    logging.disable_progress_bar()
    model_class, configuration = causal_class(checkpoint, trust_remote_code=trust_remote_code)
    check_against_config(checkpoint)
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    spread = device == "cuda" and torch.cuda.device_count() > 1
    stored = stored_tensors(checkpoint)
    with loading_explained(checkpoint.folder), out_of_memory_explained(checkpoint.folder):
        loaded: Any = model_class.from_pretrained(
            None,
            config=configuration,
            state_dict=stored,
            generation_config=_generation(checkpoint.folder),
            dtype=getattr(torch, dtype),
            device_map="auto" if spread else {"": device},
            attn_implementation=attention,
            ignore_mismatched_sizes=True,  # they are named below
            output_loading_info=True,
            local_files_only=True,
        )
    model, report = loaded
    model.config.name_or_path = str(checkpoint.folder)
    _check_complete(checkpoint, model, report)
    keep_padding_rows(model, stored)
    _check_same(checkpoint, model, compare(model, stored), report)
    return model.eval().requires_grad_(False)


def _generation(folder: Path) -> Any:
    from transformers import GenerationConfig

    try:
        return GenerationConfig.from_pretrained(folder, local_files_only=True)
    except OSError:
        return GenerationConfig.from_pretrained(
            folder, config_file_name="config.json", _from_model_config=True, local_files_only=True
        )


def _check_complete(checkpoint: Checkpoint, model: LanguageModel, report: dict[str, Any]) -> None:
    if report["mismatched_keys"]:
        (name, stored, live), *others = sorted(report["mismatched_keys"])
        more = f", and {len(others)} more tensors have another shape" if others else ""
        raise AtlasError(
            f"tensor {name} is {_by(stored)} in the checkpoint, and {_by(live)} by config.json{more}",
            where=checkpoint.folder,
            remedy="the shape and the numbers in config.json disagree: correct the one that is wrong",
        )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise AtlasError(
            f"the checkpoint lacks {len(missing)} tensors of {type(model).__name__}: {', '.join(missing[:5])}",
            where=checkpoint.folder,
            remedy="they would be random numbers: take a checkpoint with a language-model head, or switch off the "
            "analyses of this model that run it",
        )


def _check_same(checkpoint: Checkpoint, model: LanguageModel, found: Any, report: dict[str, Any]) -> None:
    """Refuse a model that does not hold what its checkpoint stores; say what was compared."""
    if found.differing:
        raise AtlasError(
            f"{len(found.differing)} tensors of {type(model).__name__} are not what the checkpoint stores: "
            f"{', '.join(found.differing[:5])}",
            where=checkpoint.folder,
            remedy=_RUN_ELSEWHERE,
        )
    # transformers leaves out of its report what a class is known to do without.
    unknown = [name for name, target in found.absent.items() if target in report["unexpected_keys"]]
    unknown = _unexplained(checkpoint, [name for name in unknown if name not in checkpoint.consumed])
    if unknown:
        raise AtlasError(
            f"{type(model).__name__} has no place for {len(unknown)} stored tensors: {', '.join(unknown[:5])}",
            where=checkpoint.folder,
            remedy=f"config.json or `family` may be another model's; {_RUN_ELSEWHERE}",
        )
    total = len(found.absent) + len(found.named) + len(found.compared)
    outside = f"; {len(found.absent)} are no part of it" if found.absent else ""
    print(
        f"{total - len(found.absent)} of {total} stored tensors are in the model, {len(found.compared)} compared by "
        f"value{outside}",
        flush=True,
    )


def _unexplained(checkpoint: Checkpoint, names: list[str]) -> list[str]:
    """Those of some stored tensors that the inventory takes for a part of the language model."""
    if not names:
        return []
    try:
        table = inventory(checkpoint, allow_other=True)
    except AtlasError:  # a family that is not known
        return names
    known = table if checkpoint.allow_other else table[~table["note"].str.endswith("explains it")]
    outside = known["role"].eq("other") | known["stack"].eq("other") | known["component"].eq("mtp")
    harmless = set(known["tensor"][outside | known["tied_to"].ne("")])
    return [name for name in names if name not in harmless]


def _by(shape: Any) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def refuse_ids_beyond(model: LanguageModel, tokenizer: Any, where: object) -> None:
    """Let every forward pass of a model end in AtlasError that is given an id beyond its embedding.

    On a CPU this would be an IndexError from deep inside, on CUDA a failed assertion of the device, after which the
    process can do nothing more with it. where: the model, for the message.
    """
    embedding = model.get_input_embeddings()

    def check(module: torch.nn.Module, inputs: tuple, keywords: dict) -> None:
        ids = inputs[0] if inputs else keywords.get("input", keywords.get("input_ids"))
        if ids is not None and ids.numel() and (largest := int(ids.max())) >= embedding.weight.shape[0]:
            raise AtlasError(
                f"the text has token {largest} ({tokenizer.decode([largest])!r}), but the model's embedding has "
                f"{embedding.weight.shape[0]} rows",
                where=where,
                remedy="the tokenizer does not belong to these weights, or has tokens that the model was not trained "
                "on: take the model's own tokenizer, or a text without this token",
            )

    embedding.register_forward_pre_hook(check, with_kwargs=True)
