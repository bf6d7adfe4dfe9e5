"""Which class of transformers, or of a model's own code, runs a checkpoint's language model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError, NotApplicable, first_line

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_SWITCH_OFF = "switch off super_weights, ablations and vocabulary for this model; weight analyses work without it"


def causal_class(checkpoint: Checkpoint, *, trust_remote_code: bool) -> tuple[type["PreTrainedModel"], Any]:
    """The class of a checkpoint's causal language model, and its configuration.

    checkpoint: has `folder` (with config.json) and `config`. A model that also sees or hears is its own class: given
    text alone, it is its language model. NotApplicable for a checkpoint that has no causal language-model head.
    """
    from transformers import AutoConfig

    declared = checkpoint.config
    if "gguf" in declared:
        raise NotApplicable(
            "GGUF weights are analysed, not run",
            where=checkpoint.folder,
            remedy="take the model's safetensors, or switch off the analyses of this model that run it",
        )
    if not declared.get("model_type") and not declared.get("auto_map"):
        raise NotApplicable(
            "no config.json that names a model type: this checkpoint cannot be run",
            where=checkpoint.folder,
            remedy="put the model's config.json beside the weights, or switch off the analyses that run the model",
        )
    with loading_explained(checkpoint.folder):
        configuration = AutoConfig.from_pretrained(
            checkpoint.folder, trust_remote_code=trust_remote_code, local_files_only=True
        )
        reference = (getattr(configuration, "auto_map", None) or {}).get("AutoModelForCausalLM")
        if reference and trust_remote_code:
            return _own_code(reference, checkpoint.folder), configuration
        found = _in_transformers(declared, configuration)
    if found is not None:
        return found
    name = (declared.get("architectures") or [declared.get("model_type")])[0]
    if reference:
        raise AtlasError(
            f"{name} runs only with the Python code that comes with it",
            where=checkpoint.folder,
            remedy="set trust_remote_code: true for this model if you trust its makers",
        )
    raise NotApplicable(f"{name} has no causal language-model head", where=checkpoint.folder, remedy=_SWITCH_OFF)


def _own_code(reference: str, folder: Path) -> type["PreTrainedModel"]:
    from transformers.dynamic_module_utils import get_class_from_dynamic_module
    from transformers.models.auto.auto_factory import add_generation_mixin_to_remote_model

    return add_generation_mixin_to_remote_model(get_class_from_dynamic_module(reference, folder, local_files_only=True))


def _in_transformers(declared: dict, configuration: Any) -> tuple[type["PreTrainedModel"], Any] | None:
    from transformers.models.auto import modeling_auto as auto

    architecture, kind = (declared.get("architectures") or [""])[0], configuration.model_type
    known = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    # Encoders such as BERT can be built as decoders too; their checkpoints name the class that they were trained as.
    if known is not None and (not architecture or architecture == known or "CausalLM" in architecture):
        causal: Any = auto.MODEL_FOR_CAUSAL_LM_MAPPING[type(configuration)]
        return _with_its_part(causal, configuration)
    classes: Any
    for names, classes in (
        (auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING),
        (auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES, auto.MODEL_FOR_MULTIMODAL_LM_MAPPING),
    ):
        text = configuration.get_text_config(decoder=True)
        decodes = not (configuration.is_encoder_decoder or text.is_encoder_decoder)
        if kind in names and decodes and architecture in ("", names[kind]):
            return classes[type(configuration)], configuration
    return None


def _with_its_part(model_class: type["PreTrainedModel"], configuration: Any) -> tuple[type["PreTrainedModel"], Any]:
    """A class, and the part of a composite configuration that it is built from."""
    part = configuration.sub_configs.get("text_config")
    if part is None or model_class.config_class is not part:
        return model_class, configuration
    text = configuration.get_text_config()
    if (quantization := getattr(configuration, "quantization_config", None)) is not None:
        text.quantization_config = quantization
    return model_class, text


@contextmanager
def loading_explained(folder: object) -> Iterator[None]:
    """Turn what transformers raises while it loads a model into one message."""
    try:
        yield
    except AtlasError:
        raise
    except Exception as error:  # a value of config.json that no class expects surfaces as any type
        raise AtlasError(
            f"transformers cannot load the model: {first_line(error)}",
            where=folder,
            remedy="check config.json; a model with its own Python code needs trust_remote_code: true",
        ) from error
