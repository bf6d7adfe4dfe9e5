"""What a family file may say, checked strictly, and how `extends` puts files together."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

try:
    from yaml import CSafeLoader as SafeLoader
except ImportError:  # PyYAML without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]  # it has the same interface

from weight_atlas.errors import AtlasError
from weight_atlas.families.layouts import LAYOUTS
from weight_atlas.families.roles import FINAL_NORMS, NORM_PLACES, NORMS, Role

FOLDER = Path(__file__).parent
COMMON = "_common"
_MERGED = ("configuration", "scales", "assume", "modules", "tensors", "buffers", "others", "shapes", "describe")
_INHERITED = ("stack", "prefixes")


Fact = Literal["norm", "final_norm", "positions", "activation", "attention", "order"]


T = TypeVar("T")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """Where config.json gives a quantity: a key, or a product such as "expand*hidden_size"; `when` must hold.

    A name that is a key and a quantity means the key, else the quantity; "config.head_dim" means the key alone.
    """

    model_config = ConfigDict(coerce_numbers_to_str=True)

    use: str
    when: dict[str, Any] = Field(default_factory=dict)


class Saying(_Strict):
    """A fact that no key of config.json gives; `when` must hold."""

    say: str
    when: dict[str, Any] = Field(default_factory=dict)


class Row(_Strict):
    """What one tensor is.

    role, or pieces (the roles in a fused tensor, in stored order) with layout (see layouts.py), sizes and groups.
    bias: it is the bias of that role or of those pieces. component: the part of the block, where the role alone does
    not say it; of a norm, where it stands (NORM_PLACES). norm: what this norm computes, where it differs from the
    family's others. heads: the quantity that counts its heads, or head_dim: the one that gives their width. same_as: a
    tensor that holds the same data. buffer: no parameter but a constant that the model stores.
    A row counts only when: keys of config.json have these values; unless: they have these; kind: the layer is of this
    kind (Quantities.kind); shape: the tensor has this stored shape (quantities, or "any").
    """

    role: Role | None = None
    pieces: tuple[Role, ...] = ()
    layout: tuple[str, ...] = ()
    sizes: tuple[str, ...] = ()
    groups: str | None = None
    component: str = ""
    norm: str = ""
    stack: Literal["decoder", "encoder", "other"] | None = None
    heads: str | None = None
    head_dim: str | None = None
    bias: bool = False
    same_as: str = ""
    buffer: bool = False
    note: str = ""
    when: dict[str, Any] = Field(default_factory=dict)
    unless: dict[str, Any] = Field(default_factory=dict)
    kind: str | None = None
    shape: tuple[str, ...] = ()

    @property
    def roles(self) -> tuple[Role, ...]:
        """The roles of what the tensor holds, in stored order."""
        return self.pieces or (() if self.role is None else (self.role,))

    @field_validator("layout", mode="before")
    @classmethod
    def _words(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> "Row":
        if (self.role is None) == (not self.pieces):
            raise ValueError("a row has either `role` or `pieces`")
        if len(set(self.pieces)) < len(self.pieces):
            raise ValueError("`pieces` names one role twice")
        if unknown := set(self.layout) - LAYOUTS.keys():
            raise ValueError(f"unknown layout {', '.join(sorted(unknown))}: use {', '.join(LAYOUTS)}")
        shared = any(LAYOUTS[word] == "sharing" for word in self.layout)
        if shared != bool(self.pieces):
            raise ValueError("`pieces` need a layout that says how they share the tensor, and only they have one")
        if self.sizes and len(self.sizes) != len(self.pieces):
            raise ValueError("`sizes` and `pieces` differ in length")
        if self.norm and self.role is not Role.NORM:
            raise ValueError("only a row of role `norm` says which `norm` it is")
        if self.role is Role.NORM and self.component and self.component not in NORM_PLACES:
            raise ValueError(f"unknown place of a norm {self.component}: use {', '.join(NORM_PLACES)}")
        if self.norm and self.norm not in NORMS:
            raise ValueError(f"unknown norm {self.norm}: use {', '.join(NORMS)}")
        if self.role is Role.OTHER and not self.note:
            raise ValueError("role `other` needs a `note` that says why")
        return self


def present(table: Mapping[str, T | None]) -> dict[str, T]:
    """The entries of a table of a family that no later file removes."""
    return {key: value for key, value in table.items() if value is not None}


class Family(_Strict):
    """One family: its rows, and where config.json gives its quantities.

    title: the models' name. about: what is special about them.
    modules: name patterns of modules, each with a `.weight` and perhaps a `.bias`. tensors: patterns of whole tensor
    names. buffers: patterns of stored constants -> the reason. others: name prefixes of parts that are not analysed ->
    the reason. A pattern holds {layer}, {expert} and {index} where a number stands. prefixes: what may stand before a
    name. scales: what the model multiplies its logits by ("logits"), what an MLP adds to the residual stream
    ("mlp"), and what its routed experts give beside their routing weights ("routed"): factors, of which each counts
    whose keys config.json gives. assume: values of config.json keys that are
    absent. describe: facts that no key tells; final_norm: "none" or "without parameters", for a decoder that stores no
    norm before its unembedding. shapes: logical rows and columns by name pattern, "role(component)", "expert role" or
    role, each as in shapes.py. some_layers: patterns that a layer may lack although it is otherwise like those that
    have them.
    """

    name: str
    title: str = ""
    about: str = ""
    extends: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    model_types: tuple[str, ...] = ()
    stack: Literal["decoder", "encoder"] = "decoder"
    prefixes: tuple[str, ...] = ("",)
    configuration: dict[str, tuple[Source, ...]] = Field(default_factory=dict)
    scales: dict[Literal["logits", "mlp", "routed"], tuple[Source, ...]] = Field(default_factory=dict)
    assume: dict[str, Any] = Field(default_factory=dict)
    modules: dict[str, tuple[Row, ...] | None] = Field(default_factory=dict)
    tensors: dict[str, tuple[Row, ...] | None] = Field(default_factory=dict)
    buffers: dict[str, str | None] = Field(default_factory=dict)
    others: dict[str, str | None] = Field(default_factory=dict)
    shapes: dict[str, tuple[str, ...] | None] = Field(default_factory=dict)
    some_layers: tuple[str, ...] = ()
    describe: dict[Fact, tuple[Saying, ...]] = Field(default_factory=dict)

    @field_validator("extends", mode="before")
    @classmethod
    def _one_or_more(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("configuration", "scales", mode="before")
    @classmethod
    def _sources(cls, value: Any) -> object:
        return {key: [_expand(item, "use") for item in _as_list(given)] for key, given in dict(value).items()}

    @field_validator("describe", mode="before")
    @classmethod
    def _sayings(cls, value: Any) -> object:
        return {key: [_expand(item, "say") for item in _as_list(given)] for key, given in dict(value).items()}

    @field_validator("describe")
    @classmethod
    def _known(cls, value: dict[str, tuple[Saying, ...]]) -> dict[str, tuple[Saying, ...]]:
        for fact, known in (("norm", NORMS), ("final_norm", FINAL_NORMS)):
            if unknown := {saying.say for saying in value.get(fact, ())} - set(known):
                raise ValueError(f"unknown {fact} {', '.join(sorted(unknown))}: use {', '.join(known)}")
        return value

    @field_validator("modules", "tensors", mode="before")
    @classmethod
    def _rows(cls, value: Any) -> object:
        return {
            key: None if given is None else [_expand(item, "role") for item in _as_list(given)]
            for key, given in dict(value).items()
        }


def _as_list(value: object) -> list:
    return value if isinstance(value, list) else [value]


def _expand(value: object, key: str) -> object:
    return {key: value} if isinstance(value, str | int) else value


class _UniqueKeys(SafeLoader):
    """YAML in which a key given twice is an error rather than the last one winning."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [key.value for key, _ in node.value]
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} given twice", node.start_mark)
        return super().construct_mapping(node, deep)


def read_family(path: Path) -> Family:
    """One family file as it stands, without what it extends; anything wrong in it is an AtlasError."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
        return Family.model_validate({"name": path.stem, **content})
    except (OSError, yaml.YAMLError, ValidationError, TypeError) as error:
        raise AtlasError(f"not a valid family file: {error}", where=path, remedy="see docs/families.md") from error


@cache
def own_family(name: str) -> Family:
    """A family of this package as its file stands."""
    return read_family(FOLDER / f"{name}.yaml")


@cache
def load_family(name: str) -> Family:
    """A family of this package together with all that it extends."""
    return put_together(own_family(name))


def put_together(family: Family, seen: tuple[str, ...] = ()) -> Family:
    """Add what a family extends: tables are merged, later ones win, and a null entry removes a row."""
    if family.name in seen:
        raise AtlasError(f"families extend each other in a circle: {' -> '.join([*seen, family.name])}")
    # A fragment holds only what it adds: with the common part in it, it would undo what an earlier file changed.
    based = family.name.startswith("_") or any(not name.startswith("_") for name in family.extends)
    names = family.extends if based else (COMMON, *family.extends)
    layers = [put_together(own_family(base), (*seen, family.name)) for base in names] + [family]
    merged: dict[str, Any] = {field: {} for field in _MERGED}
    for layer in layers:
        for field in _MERGED:
            merged[field] |= getattr(layer, field)
        merged |= {field: getattr(layer, field) for field in _INHERITED if field in layer.model_fields_set}
        merged["some_layers"] = (*merged.get("some_layers", ()), *layer.some_layers)
    for field in ("modules", "tensors", "buffers", "others", "shapes"):
        merged[field] = present(merged[field])
    return family.model_copy(update=merged)
