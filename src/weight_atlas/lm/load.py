"""Load a checkpoint as a causal language model that can be run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from weight_atlas.errors import AtlasError, NotApplicable

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load_model(
    checkpoint: Any,
    *,
    device: str = "cpu",
    dtype: str = "auto",
    trust_remote_code: bool = False,
    attention: str | None = None,
) -> torch.nn.Module:
    """Load the causal language model of a checkpoint, in evaluation mode, ready for forward passes.

    checkpoint: has `folder` (with config.json and weights) and `config`. dtype: "auto" computes in bfloat16 on CUDA and
    in float32 on a CPU, where 16-bit arithmetic is several times slower. A model spreads over all CUDA devices that
    this process sees if they are several. attention: transformers' attention implementation, by default its own choice;
    "eager" where attention weights are asked for.

    Raises NotApplicable for a model without a causal language-model head, AtlasError for weights that are missing from
    the checkpoint (they would be random) and for lack of memory.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    configuration = causal_configuration(checkpoint, trust_remote_code)
    if dtype == "auto":
        dtype = "bfloat16" if device == "cuda" else "float32"
    spread = device == "cuda" and torch.cuda.device_count() > 1
    with out_of_memory_explained(checkpoint.folder), _loading_explained(checkpoint.folder):
        model, report = AutoModelForCausalLM.from_pretrained(
            checkpoint.folder,
            config=configuration,
            dtype=DTYPES[dtype],
            device_map="auto" if spread else {"": device},
            attn_implementation=attention,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
        )
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise AtlasError(
            f"the checkpoint lacks {len(missing)} tensors of {type(model).__name__}: {', '.join(missing[:5])}",
            where=checkpoint.folder,
            remedy="they would be random numbers: take a checkpoint with a language-model head, or switch off the "
            "analyses of this model that run it",
        )
    return model.eval().requires_grad_(False)


@contextmanager
def out_of_memory_explained(where: object) -> Iterator[None]:
    """Turn the several ways in which memory runs out into one message."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise AtlasError(
            f"out of memory: {_first_line(error)}",
            where=where,
            remedy="lower batch_size or window, take dtype bfloat16, or give the step more GPUs or memory",
        ) from error


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an exception says that memory ran out, on a GPU or on the machine."""
    said = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or "can't allocate memory" in said
        or "not enough memory" in said
    )


def causal_configuration(checkpoint: Any, trust_remote_code: bool) -> Any:
    """transformers' configuration of a causal language model; NotApplicable for a checkpoint that is none."""
    from transformers import AutoConfig

    declared = checkpoint.config
    if not declared.get("model_type") and not declared.get("auto_map"):
        raise NotApplicable(
            "no config.json that names a model type: this checkpoint cannot be run",
            where=checkpoint.folder,
            remedy="put the model's config.json beside the weights, or switch off the analyses that run the model",
        )
    with _loading_explained(checkpoint.folder):
        configuration = AutoConfig.from_pretrained(
            checkpoint.folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
    architecture = (declared.get("architectures") or [""])[0]
    if not _has_causal_head(architecture, configuration):
        raise NotApplicable(
            f"{architecture or declared.get('model_type')} has no causal language-model head",
            where=checkpoint.folder,
            remedy="switch off super_weights, ablations and vocabulary for this model; weight analyses work without it",
        )
    return configuration


def _has_causal_head(architecture: str, configuration: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if "AutoModelForCausalLM" in (getattr(configuration, "auto_map", None) or {}):
        return True
    known = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(configuration.model_type)
    # Encoders such as BERT can be built as decoders too; their checkpoints name the class that they were trained as.
    return known is not None and (not architecture or architecture == known or "CausalLM" in architecture)


@contextmanager
def _loading_explained(folder: object) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise AtlasError(
            f"transformers cannot load the model: {_first_line(error)}",
            where=folder,
            remedy="check config.json; a model with its own Python code needs trust_remote_code: true",
        ) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
