"""Learned token weights: a vector with one number a token, or a table that is reduced to one."""

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from weight_atlas.settings.base import Count, Distinct, Natural, Percent, Settings, Text

ByteFloat: TypeAlias = Literal["float8_e3m4", "float8_e4m3fn", "float8_e5m2"]
HUB = "hf://"
SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".npy")


class VectorFile(Settings):
    """Which file a vector comes from."""

    source: Text | None = Field(
        None,
        description="File that holds the weights: .pt, .pth, .ckpt, .bin, .safetensors or .npy, or "
        "hf://organisation/name/file; only the named tensor is read. null: the rows of a model's matrix.",
    )
    revision: Text | None = Field(
        None, description="Branch, tag or commit of a hub repository; resolved to a commit and recorded."
    )


class Origin(VectorFile):
    """Where a vector comes from."""

    matrix: Literal["W_E", "W_U"] = Field("W_E", description="Matrix of `model`: embedding or output embedding.")


class Table(Settings):
    """Which numbers of a file are the weights, and how a table of them becomes one a token."""

    key: Text | None = Field(
        None,
        description="Dotted name of the tensor in the file, such as model_state_dict.token_weights; null: the only "
        "tensor, or the only one called token_weights.",
    )
    mask_key: Text | None = Field(
        None, description="Dotted name of a mask in the same file, true or not 0 for some of the tokens."
    )
    mask_marks: Literal["kept", "masked"] = Field(
        "kept", description="Whether the tokens that the mask has true or not 0 for are kept or masked."
    )
    bytes_are: ByteFloat | None = Field(
        None,
        description="Numbers of 8 bits that a tensor of bytes holds; null: what the tensor `dtype` beside the table of "
        "a language detector says, else whole numbers.",
    )
    scale_key: Text | None = Field(
        None,
        description="Name of a number in the file that such bytes are multiplied by; null: `scale` beside `dtype`.",
    )
    sparse: Annotated[list[Text], Field(min_length=3, max_length=3)] | None = Field(
        None,
        description="Names of the tensors of a sparse table: row (token), column and value of each entry; null: found "
        "by their usual names where there is no tensor `key`. A tensor of one of torch's sparse layouts is read by its "
        "own name.",
    )
    reduce: Literal["norm", "max", "min", "mean", "absmax", "sum"] | None = Field(
        None, description="What is made of a token's row where the tensor is a table: norm is the L2 norm."
    )
    column: Natural | Text | None = Field(
        None, description="Column of a table to take in place of `reduce`: its number from 0, or its name in `columns`."
    )
    columns: Text | Annotated[Distinct[Text], Field(min_length=1)] | None = Field(
        None,
        description="Names of a table's columns, such as languages: a list, or a file with one a line. The tokens of "
        "highest weight are then listed for each.",
    )


class Initial(Settings):
    """What the weights were before training."""

    initial: float | None = Field(
        None, description="Value that training began with, such as 1.0; null: not known, and not judged by it."
    )


class Vector(Origin, Table, Initial):
    """What the step that reads a vector takes."""

    top: Count = Field(10, description="Tokens of highest and of lowest weight to list.")
    prune: Percent = Field(10.0, description="Percentile below which the pruned vector that is written out is zero.")
    prune_by: Literal["magnitude", "weight"] = Field(
        "magnitude", description="What counts as low in pruning: the absolute value, or the value with its sign."
    )


class Frequency(Settings):
    """What the comparison with frequencies takes."""

    threshold: Count = Field(10, description="Tokens with fewer occurrences are left out by the mask that is written.")
    divergent: Count = Field(100, description="Tokens to list whose ranks by weight and by count differ most.")
    best: Count = Field(10, description="Tokens of highest weight to list for each group of a corpus, as a language.")
    outliers: Count = Field(50, description="Tokens of high weight and few occurrences to list.")


class Counted(Frequency):
    """What the step takes that compares with frequencies."""

    counts: Text | None = Field(
        None,
        description="Occurrences of each token: a corpus of `corpora`, counted by the tokenizer, or a .npy file of "
        "shape (V,) or (V, 1); null: no comparison with frequencies.",
    )


class Evolution(Table, Initial):
    """What the comparison of checkpoints takes."""

    checkpoints: Annotated[Distinct[Text], Field(min_length=1)] | None = Field(
        None,
        description="Files of a training run, or patterns of files: in the order of the list, and numbers in names of "
        "one pattern in their natural order.",
    )
    moved: Count = Field(20, description="Tokens to follow through the checkpoints, those that moved most.")


class TokenWeights(Vector, Counted, Evolution):
    """An entry of `token_weights`."""

    model: str | None = Field(
        None, description="Name of a model in `models`: the weight of a token is the L2 norm of its row of `matrix`."
    )
    tokenizer: Text | None = Field(
        None,
        description="What says which token an id is: the name of a model in `models`, or in `tokenizers`, a "
        "folder, a tokenizer.json, or hf://organisation/name; null: that of `model`, else tokens are shown by ids.",
    )

    @model_validator(mode="after")
    def _one_origin(self) -> "TokenWeights":
        if (self.source is None) == (self.model is None):
            raise PydanticCustomError(
                "one_origin", "needs either a source or a model", {"remedy": "give `source: FILE` or `model: NAME`"}
            )
        if self.source is not None and not self.source.endswith(SUFFIXES):
            raise PydanticCustomError(
                "no_vector", "the source of token weights should be a file", {"remedy": f"of {', '.join(SUFFIXES)}"}
            )
        of_file = (
            "revision",
            "key",
            "mask_key",
            "bytes_are",
            "scale_key",
            "sparse",
            "reduce",
            "column",
            "columns",
            "checkpoints",
        )
        if self.model is not None and (given := [key for key in of_file if getattr(self, key) is not None]):
            raise PydanticCustomError(
                "of_file", "{key} is for files", {"key": given[0], "remedy": f"remove `{given[0]}`, or give a `source`"}
            )
        if self.revision is not None and not str(self.source).startswith(HUB):
            raise PydanticCustomError(
                "revision_of_hub", "`revision` is for files on the hub", {"remedy": "remove `revision`"}
            )
        if self.reduce is not None and self.column is not None:
            raise PydanticCustomError(
                "two_ways", "a table is reduced in one way", {"remedy": "give either `reduce` or `column`"}
            )
        return self
