"""Names of tensors in GGUF files, by gguf's own map from the names of Hugging Face's modules."""

import re
from collections.abc import Callable

import pandas as pd

from weight_atlas.errors import NotApplicable

# transformers' model_type -> llama.cpp's architecture, where they are not the same but for "-" and "_".
_ARCHITECTURES = {
    "mistral": "llama", "mixtral": "llama", "yi": "llama", "cohere": "command-r", "gpt_bigcode": "starcoder",
    "phi": "phi2", "roberta": "bert", "xlm-roberta": "bert", "distilbert": "bert", "camembert": "bert",
    "deepseek_v2": "deepseek2", "deepseek_v3": "deepseek2", "gemma3_text": "gemma3", "gemma3n_text": "gemma3n",
    "granitemoehybrid": "granitehybrid", "hunyuan_v1_dense": "hunyuan-dense", "hunyuan_v1_moe": "hunyuan-moe",
    "minimax": "minimax-m2", "qwen3_5": "qwen35", "qwen3_5_moe": "qwen35moe", "chatglm": "chatglm",
}  # fmt: skip


def gguf_names(config: dict, n_layers: int) -> Callable[[str], str | None]:
    """A function from a stored name to the one in a GGUF file, None for a tensor that such files do not hold.

    The experts of a layer have one name together. NotApplicable for a model that llama.cpp does not know.
    """
    import gguf

    kind = str(config.get("model_type", ""))
    wanted = _ARCHITECTURES.get(kind, kind)
    known = {_plain(name): number for number, name in gguf.MODEL_ARCH_NAMES.items()}
    if _plain(wanted) not in known:
        raise NotApplicable(f"the gguf package knows no model of type {kind!r}")
    names = gguf.get_tensor_name_map(known[_plain(wanted)], n_layers)

    def of(stored: str) -> str | None:
        if re.match(r"(blk\.\d+\.|token_embd\.|output\.|position_embd\.)", stored):
            return stored
        together = re.sub(r"\.experts\.\d+\.", ".experts.", stored)
        # A base model is stored without, or with, the name of the part that its head stands on.
        tried = [together, together.partition(".")[2], f"model.{together}", f"transformer.{together}"]
        for name in tried:
            if (found := names.get_name(name.removesuffix(".weight"))) is not None:
                return f"{found}.weight"
        return None

    return of


def names_for(tool: str, config: dict, inventory: pd.DataFrame) -> Callable[[str], str | None] | None:
    """The names that a tool has for tensors, None where it has the stored ones."""
    if tool != "llama.cpp":
        return None
    language = config.get("text_config")
    layers = inventory["layer"].dropna()
    return gguf_names(language if isinstance(language, dict) else config, int(layers.max()) + 1 if len(layers) else 0)


def _plain(name: str) -> str:
    return name.replace("-", "").replace("_", "")
