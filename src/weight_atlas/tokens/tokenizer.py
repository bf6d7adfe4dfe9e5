"""A model's tokenizer, as transformers' AutoTokenizer gives it, and the number of ids that it and the model know."""

from pathlib import Path
from typing import Any

from weight_atlas.errors import AtlasError

_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")


def load_tokenizer(folder: Path, *, trust_remote_code: bool = False) -> Any:
    """Load the tokenizer that lies in a checkpoint's folder; one that is missing or broken is an AtlasError."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in _FILES):
        raise AtlasError(
            "the model comes without a tokenizer",
            where=folder,
            remedy="put its tokenizer.json beside the weights, or switch off the analyses of this model that read text",
        )
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    except Exception as error:
        # Missing files, unknown classes and broken JSON all surface as different types here.
        raise AtlasError(
            f"the tokenizer cannot be loaded: {(str(error).strip() or type(error).__name__).splitlines()[0]}",
            where=folder,
            remedy="check tokenizer.json and tokenizer_config.json beside the weights",
        ) from error


def vocabulary_size(tokenizer: Any, config: dict) -> int:
    """Return the number of token ids: all that the tokenizer can give, and all rows of the model's embedding.

    config: the model's config.json. Many models pad their embedding beyond the tokenizer's vocabulary; a few
    tokenizers have ids beyond the embedding.
    """
    rows = config.get("vocab_size") or config.get("text_config", {}).get("vocab_size") or 0
    return max(len(tokenizer), max(tokenizer.get_vocab().values(), default=-1) + 1, int(rows))


def token_texts(tokenizer: Any, vocabulary: int) -> list[str]:
    """Return each id's token as it reads in a text, "" for ids without a token.

    A token that is no complete character, such as one byte of several, is given in the tokenizer's own notation.
    """
    tokens = {id: token for token, id in tokenizer.get_vocab().items()}
    ids = sorted(tokens)
    decoded = tokenizer.batch_decode([[id] for id in ids], clean_up_tokenization_spaces=False)
    texts = {id: _readable(tokens[id], text) for id, text in zip(ids, decoded, strict=True)}
    return [texts.get(id, "") for id in range(vocabulary)]


def _readable(token: str, text: str) -> str:
    if not text or "\N{REPLACEMENT CHARACTER}" in text:
        return token
    # Sentence-piece decoders drop the space before the first word of a text.
    return f" {text}" if token.startswith("▁") and not text.startswith(" ") else text
