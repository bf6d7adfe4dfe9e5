"""A model's tokenizer: the stored tokenizer.json inside transformers' AutoTokenizer; and its ids.

transformers rebuilds the tokenizers of some classes (LlamaTokenizer among them) from the vocabulary and drops what
tokenizer.json says about white space and special tokens, so that some texts get other ids than the model was trained
with. Counts, windows and prompts all use the ids of tokenizer.json; transformers provides the tokens around a text
(BOS, EOS), the names of special tokens, the chat template, and tokens that only tokenizer_config.json has.
"""

import json
from pathlib import Path
from typing import Any

from weight_atlas.errors import AtlasError, NotApplicable, first_line, refuse_huge
from weight_atlas.tokenizer_limits import check_growth, check_ids

# The components that turn a text into ids, and ids into a text.
_PARTS = ("normalizer", "pre_tokenizer", "model", "decoder")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tokenizer_config.json",
)
# Of a file that is a tokenizer by itself: tokenizer.json under any name, and a SentencePiece model.
LONE_SUFFIXES = (".json", ".model")


def load_tokenizer(folder: Path, *, trust_remote_code: bool) -> Any:
    """Load the tokenizer in a folder, or of one file (tokenizer.json, a SentencePiece model).

    A broken one is an AtlasError, a missing one NotApplicable.
    """
    return tokenizer_and_source(folder, trust_remote_code=trust_remote_code)[0]


def tokenizer_and_source(folder: Path, *, trust_remote_code: bool) -> tuple[Any, dict[str, Any]]:
    """The tokenizer, and where its ids come from: source, and the parts that transformers built otherwise (rebuilt)."""
    if folder.is_file():
        return _of_file(folder)
    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise NotApplicable(
            "the model comes without a tokenizer",
            where=folder,
            remedy="put its tokenizer.json beside the weights, or switch off the analyses of this model that read text",
        )
    try:
        stored = _stored(file) if (file := folder / "tokenizer.json").is_file() else None
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
        source = _restore(tokenizer, stored)
    except AtlasError:
        raise
    except Exception as error:
        # Missing files, unknown classes and broken JSON all surface as different types here.
        raise _not_loaded(
            error, folder, "check tokenizer.json, tokenizer_config.json and config.json beside the weights"
        ) from error
    check_ids(tokenizer.get_vocab().values(), folder)
    return tokenizer, source


def _stored(file: Path) -> Any:
    """A tokenizer.json as it is stored, checked before it is used."""
    from tokenizers import Tokenizer

    refuse_huge(file)
    stored = Tokenizer.from_file(str(file))
    check_ids(stored.get_vocab().values(), file)
    check_growth(stored, file)
    return stored


def stored_vocabulary(folder: Path) -> dict[str, int] | None:
    """The ids of tokenizer.json by their tokens, and those that tokenizer_config.json adds; None without the former.

    The same ids as those of the tokenizer, in a fraction of the time that importing transformers takes.
    """
    if not (file := folder / "tokenizer.json").is_file():
        return None
    try:
        vocabulary = _stored(file).get_vocab(with_added_tokens=True)
        if (file := folder / "tokenizer_config.json").is_file():
            added = json.loads(file.read_text(encoding="utf-8")).get("added_tokens_decoder") or {}
            vocabulary |= {token["content"]: int(number) for number, token in added.items()}
    except AtlasError:
        raise
    except Exception as error:  # tokenizers raises Exception itself
        raise _not_loaded(error, file, "restore the file from the model's source") from error
    check_ids(vocabulary.values(), folder)
    return vocabulary


def _of_file(file: Path) -> tuple[Any, dict[str, Any]]:
    """The tokenizer that one file is, as tokenizer_and_source gives it."""
    refuse_huge(file)
    try:
        if file.suffix == ".model":
            return SentencePieceTokenizer(file), {"source": file.name, "rebuilt": []}
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(tokenizer_object=_stored(file)), {"source": file.name, "rebuilt": []}
    except AtlasError:
        raise
    except Exception as error:
        raise _not_loaded(
            error, file, "give a tokenizer.json of the library tokenizers, or a SentencePiece model"
        ) from error


def _not_loaded(error: Exception, where: Path, remedy: str) -> AtlasError:
    return AtlasError(f"the tokenizer cannot be loaded: {first_line(error)}", where=where, remedy=remedy)


def _restore(tokenizer: Any, stored: Any) -> dict[str, Any]:
    """Replace what transformers made of tokenizer.json by the stored one, where the two differ; None: without one."""
    rebuilt = getattr(tokenizer, "backend_tokenizer", None)
    if type(tokenizer).__module__.startswith("transformers_modules."):
        return {"source": "code that comes with the model", "rebuilt": []}
    if rebuilt is None or stored is None:
        return {"source": type(tokenizer).__name__, "rebuilt": []}
    differing = [part for part in _PARTS if _state(stored, part) != _state(rebuilt, part)]
    differing += ["added_tokens"] if _added_tokens(stored).items() - _added_tokens(rebuilt).items() else []
    if differing:
        _wrap_alike(stored, rebuilt)
        # There is no public way to replace it, and classes that build their own ignore one that is passed to them.
        tokenizer._tokenizer = stored
        print(
            f"{type(tokenizer).__name__} of transformers differs from tokenizer.json in {', '.join(differing)}: "
            "ids are those of tokenizer.json",
            flush=True,
        )
    return {"source": "tokenizer.json", "rebuilt": differing}


def _wrap_alike(stored: Any, rebuilt: Any) -> None:
    """Copy what transformers adds to a tokenizer.json without changing the ids of texts."""
    for token in rebuilt.get_added_tokens_decoder().values():
        known = token.content in _added_tokens(stored)
        if token.special and (known or stored.token_to_id(token.content) is None):
            stored.add_special_tokens([_added_tokens(stored).get(token.content, token)])
        elif stored.token_to_id(token.content) is None:
            stored.add_tokens([token])
    stored.post_processor = rebuilt.post_processor
    stored.encode_special_tokens = rebuilt.encode_special_tokens


def _state(backend: Any, part: str) -> bytes | None:
    component = getattr(backend, part)
    return None if component is None else component.__getstate__()


def _added_tokens(backend: Any) -> dict[str, Any]:
    """How added tokens are matched in a text, by their content; being special makes no difference to that."""
    from tokenizers import AddedToken

    return {
        token.content: AddedToken(
            token.content,
            single_word=token.single_word,
            lstrip=token.lstrip,
            rstrip=token.rstrip,
            normalized=token.normalized,
            special=True,
        )
        for token in backend.get_added_tokens_decoder().values()
    }


def vocabulary_size(tokenizer: Any, config: dict, embedding: int | None = None) -> int:
    """Return the number of token ids: all that the tokenizer can give, and all rows of the model's embedding.

    config: the model's config.json. embedding: number of rows of the stored embedding; None: that of config. Many
    models pad their embedding beyond the tokenizer's vocabulary; a few tokenizers have ids beyond the embedding.
    """
    configured = config.get("vocab_size") or (config.get("text_config") or {}).get("vocab_size") or 0
    rows = configured if embedding is None else embedding
    return max(len(tokenizer), max(tokenizer.get_vocab().values(), default=-1) + 1, int(rows))


def embedding_rows(inventory: Any) -> int | None:
    """Rows of the token embedding in a model's tensor inventory; None for one without."""
    rows = inventory[(inventory["role"] == "W_E") & (inventory["component"] == "")]["rows"]
    return int(rows.max()) if len(rows) else None


def token_texts(tokenizer: Any, vocabulary: int) -> list[str]:
    """Return the text of each id's token, "" for ids without a token.

    A token that is not a complete character, such as one byte of several, is given in the tokenizer's own notation.
    """
    tokens = {id: token for token, id in tokenizer.get_vocab().items()}
    ids = sorted(tokens)
    # Of no tokens, batch_decode would make one text.
    decoded = tokenizer.batch_decode([[id] for id in ids], clean_up_tokenization_spaces=False) if ids else []
    texts = {id: _readable(tokens[id], text) for id, text in zip(ids, decoded, strict=True)}
    return [texts.get(id, "") for id in range(vocabulary)]


def _readable(token: str, text: str) -> str:
    # Sentence-piece decoders drop the space before the first word of a text.
    dropped = (len(token) - len(token.lstrip("▁"))) - (len(text) - len(text.lstrip(" ")))
    text = " " * dropped + text
    return token if not text or "\N{REPLACEMENT CHARACTER}" in text else text


def token_names(folder: Path, *, trust_remote_code: bool) -> list[str | None]:
    """How the vocabulary of the tokenizer in a folder spells the token of each id; None for ids without one."""
    vocabulary = stored_vocabulary(folder)
    if vocabulary is None:
        vocabulary = tokenizer_and_source(folder, trust_remote_code=trust_remote_code)[0].get_vocab()
    names: list[str | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for name, token in vocabulary.items():
        names[token] = name
    return names


class SentencePieceTokenizer:
    """A SentencePiece model file (.model) as a tokenizer: as much of transformers' interface as counting needs.

    Ids are those of the file. It has no special tokens besides its own.
    """

    def __init__(self, file: Path) -> None:
        import sentencepiece

        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(file.read_bytes())
        # Now rather than later: a damaged file may have pieces that are no text.
        self._vocabulary = {self._processor.id_to_piece(id): id for id in range(len(self))}

    def __len__(self) -> int:
        return self._processor.vocab_size()

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The ids of a text, without BOS and EOS."""
        if add_special_tokens:
            raise ValueError("a SentencePiece model alone does not say which special tokens stand around a text")
        return self._processor.encode(text, out_type=int, add_bos=False, add_eos=False)

    def get_vocab(self) -> dict[str, int]:
        """The id of each piece, as it is written in the file."""
        return dict(self._vocabulary)

    def batch_decode(self, ids: list[list[int]], clean_up_tokenization_spaces: bool = False) -> list[str]:
        """The text of each list of ids."""
        return [self._processor.decode(each) for each in ids]
