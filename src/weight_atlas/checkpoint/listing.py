"""Which files of a folder or of a hub repository make up a checkpoint, by their names: listed once, then handed on."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Literal

from weight_atlas.checkpoint.tensors import weight_map
from weight_atlas.errors import AtlasError

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf")
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")

# What the analyses read beside the weights: configuration, quantization settings, tokenizer, chat template.
SIDE_PATTERNS = (
    "config.json",
    "generation_config.json",
    "quantize_config.json",
    "quant_config.json",
    "quantization_config.json",
    "hf_quant_config.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "*.tiktoken",
    "tekken.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "chat_template.jinja",
)
# A model's own modules: in a local folder there may be other programs beside them, in a repository there are not.
ALL_CODE = ("*.py",)
CODE_PATTERNS = ("configuration_*.py", "modeling_*.py", "tokenization_*.py")

# Files with the same suffixes that training saves beside a checkpoint.
_NOT_WEIGHTS = (
    "training_args*",
    "optimizer*",
    "scheduler*",
    "scaler*",
    "sampler*",
    "dl_state_dict*",
    "rng_state*",
    "random_states*",
    "*_optim_states*",
    "arguments*",
)
# https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md
_POINTER = b"version https://git-lfs.github.com/spec/"
_LONGEST_POINTER = 1024  # bytes
_SHARD = re.compile(r"(?P<stem>.+)-(?P<part>\d{5,6})-of-(?P<parts>\d{5,6})(?P<suffix>\.\w+)")


@dataclass(frozen=True)
class Listing:
    """The files of a folder or repository that make up one checkpoint, by name.

    shards: those with the weights, in the order in which they are read. index: the one that names the shards, if there
    is one. side: configuration, tokenizer and the model's own modules, sorted.
    """

    shards: tuple[str, ...]
    index: str | None = None
    side: tuple[str, ...] = ()

    @property
    def weights(self) -> list[str]:
        """Shards and index."""
        return [*self.shards, *([self.index] if self.index else [])]

    @property
    def names(self) -> list[str]:
        """All files, sorted."""
        return sorted({*self.weights, *self.side})

    @property
    def format(self) -> Literal["safetensors", "pytorch", "gguf"]:
        """The format of the shards; they are all of one."""
        suffix = PurePath(self.shards[0]).suffix
        return "gguf" if suffix == ".gguf" else "pytorch" if suffix in PICKLE_SUFFIXES else "safetensors"


def list_files(
    names: Iterable[str], *, where: object, shards_in: Callable[[str], list[str]], chosen: str | None = None,
    code: tuple[str, ...] = CODE_PATTERNS,
) -> Listing:  # fmt: skip
    """Pick the files of a checkpoint out of all names at the top of a folder or repository.

    where: the folder or repository, for messages. shards_in(index): the shards that an index file names. chosen: the
    checkpoint file that the user asks for, where there are several. code: patterns of the model's own modules.
    No weights, or several files that cannot belong together, is an AtlasError.
    """
    names = sorted(names)
    shards, index = _weight_files(names, where, chosen, shards_in)
    listing = Listing(tuple(shards), index, tuple(side_files(names, code)))
    check_file_names(listing.names, where=where)
    return listing


def list_folder(
    folder: Path,
    chosen: str | None = None,
    *,
    names: Iterable[str] | None = None,
    code: tuple[str, ...] = CODE_PATTERNS,
) -> Listing:
    """The checkpoint in a local folder; names: the files to choose from, by default all plain files in it.

    AtlasError as for list_files, and for a file that is no more than a git-lfs pointer.
    """
    listing = list_files(
        top_files(folder) if names is None else names,
        where=folder,
        shards_in=lambda index: _shards_in(folder, index),
        chosen=chosen,
        code=code,
    )
    refuse_pointers(folder, listing.names)
    return listing


def top_files(folder: Path) -> list[str]:
    """Names of the plain files at the top of a folder, sorted; none if it is missing or unreadable."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.is_file())
    except OSError:
        return []


def _shards_in(folder: Path, index: str) -> list[str]:
    """The shards that an index names, each there; a missing one is an AtlasError."""
    refuse_pointers(folder, [index])
    shards = sorted(set(weight_map(folder / index).values()))
    if missing := [shard for shard in shards if not _is_file(folder / shard)]:
        raise AtlasError(
            f"the index names {len(missing)} missing file(s), first {missing[0]}",
            where=folder / index,
            remedy="download or copy the missing files again",
        )
    return shards


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long for a file, for example
        return False


def is_weight_file(name: str) -> bool:
    """Whether a file name at the top of a folder can hold weights."""
    return name.endswith(WEIGHT_SUFFIXES) and not any(fnmatchcase(name, pattern) for pattern in _NOT_WEIGHTS)


def is_index(name: str) -> bool:
    """Whether a file name is that of a shard index."""
    return name.endswith((".safetensors.index.json", ".bin.index.json"))


def refuse_pointers(folder: Path, names: Iterable[str]) -> None:
    """AtlasError if files that are read are git-lfs pointers: what a clone without git-lfs has in place of them."""
    found = sorted(name for name in names if _is_pointer(folder / name))
    if found:
        raise AtlasError(
            f"a git-lfs pointer stands in place of the file: {_some(found)}",
            where=folder,
            remedy="fetch the files themselves: install git-lfs and run `git lfs pull` in this folder",
        )


def _is_pointer(path: Path) -> bool:
    try:
        if path.stat().st_size > _LONGEST_POINTER:
            return False
        with path.open("rb") as file:
            return file.read(len(_POINTER)) == _POINTER
    except OSError:
        return False  # whoever reads it says what is wrong


def side_files(names: Iterable[str], code: tuple[str, ...] = ()) -> list[str]:
    """The configuration and tokenizer files among names, sorted; code: patterns of the model's own modules."""
    patterns = SIDE_PATTERNS + code
    return sorted(name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns))


def shards_of(name: str, names: Iterable[str]) -> list[str]:
    """All parts of the set that a file named like `model-00001-of-00003.safetensors` belongs to; else the file itself.

    Parts that the file's own name promises but that are not among names are an AtlasError.
    """
    match = _SHARD.fullmatch(name)
    if match is None:
        return [name]
    present = set(names)
    width, parts = len(match["part"]), int(match["parts"])
    wanted = [f"{match['stem']}-{part:0{width}d}-of-{match['parts']}{match['suffix']}" for part in range(1, parts + 1)]
    if missing := [part for part in wanted if part not in present]:
        raise AtlasError(
            f"a part of the checkpoint is missing: {_some(missing)}",
            where=name,
            remedy="download or copy the missing file again",
        )
    return wanted


def _weight_files(
    names: list[str], where: object, chosen: str | None, shards_in: Callable[[str], list[str]]
) -> tuple[list[str], str | None]:
    """Shards and index: of a chosen file, else safetensors before pickles before GGUF.

    Preference within a format: one whole file, then an index with its shards, then numbered parts, then all there is.
    """
    if chosen is not None:
        if chosen not in names:
            raise AtlasError(
                f"there is no file {chosen}", where=where, remedy=f"choose one of: {_some(_weights(names))}"
            )
        return shards_of(chosen, names), None
    if "adapter_config.json" in names and not any(name.startswith(("model", "pytorch_model")) for name in names):
        adapters = [name for name in names if name in ("adapter_model.safetensors", "adapter_model.bin")]
        if adapters:
            return [adapters[-1]], None
    weights = [name for name in _weights(names) if not name.startswith("adapter_model.")]
    for stem, suffixes in (("model", (".safetensors",)), ("pytorch_model", PICKLE_SUFFIXES), ("", (".gguf",))):
        found = [name for name in weights if name.endswith(suffixes)]
        suffix = suffixes[0]
        index = f"{stem}{suffix}.index.json"
        if f"{stem}{suffix}" in names:
            return [f"{stem}{suffix}"], None
        if index in names:
            if not (shards := shards_in(index)):
                raise AtlasError(
                    "the index names no file of weights", where=f"{where}/{index}",
                    remedy="get index and shards again from one version of the checkpoint",
                )  # fmt: skip
            return sorted(_within(folder_index=index, shards=shards, where=where)), index
        if found:
            return _without_index(found, where), None
    raise AtlasError(
        "no weights here",
        where=where,
        remedy="point `source` at a folder with *.safetensors, *.bin, *.pt, *.pth, *.ckpt or *.gguf, or at such a file",
    )


def check_file_names(names: Iterable[str], *, where: object) -> None:
    """AtlasError for a file name that is not valid text, which no manifest could hold."""
    for name in names:
        if name.encode("utf-8", "replace").decode() != name:
            raise AtlasError("a file name is not UTF-8", where=f"{where}/{name}", remedy="rename the file")


def _weights(names: Iterable[str]) -> list[str]:
    return [name for name in names if is_weight_file(name)]


def _without_index(found: list[str], where: object) -> list[str]:
    # Some repositories keep the maker's own copy of the same weights beside the usual files.
    usual = [name for name in found if not name.startswith("consolidated")] or found
    sets = {tuple(shards_of(name, usual)) for name in usual}
    if len(sets) == 1:
        return list(*sets)
    if all(name.endswith(".safetensors") for name in usual):
        return usual
    raise AtlasError(
        f"several checkpoints in one place: {_some(usual)}",
        where=where,
        remedy="name the file you mean in `source` (folder/file, or hf://org/name/file)",
    )


def _within(*, folder_index: str, shards: list[str], where: object) -> set[str]:
    if outside := [shard for shard in shards if "/" in shard or "\\" in shard or shard in ("", ".", "..")]:
        raise AtlasError(
            f"the index names files outside its folder: {_some(outside)}",
            where=f"{where}/{folder_index}",
            remedy="get the checkpoint from a source that you trust",
        )
    return set(shards)


def _some(names: list[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
