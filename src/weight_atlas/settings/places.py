"""Places of weights in a model, as the configuration names them: by role, layer and index."""

import difflib
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from weight_atlas.families.roles import Role
from weight_atlas.settings.base import Natural, Settings

# Roles of tensors that a forward pass reads; of each but a norm's there may be a bias, such as W_Q.bias.
NAMED = tuple(str(role) for role in Role if role not in (Role.BIAS, Role.OTHER, Role.W_DENSE) and "lora" not in role)
_ROLE = rf"^({'|'.join(NAMED)})(\.bias)?$"


def _role(name: str) -> str:
    if name.removesuffix(".bias") not in NAMED:
        usual = "W_E, W_Q, W_K, W_V, W_O, W_gate, W_up, W_down, W_router, norm, W_U"
        same = [role for role in NAMED if role.lower() == name.lower()]
        near = same or difflib.get_close_matches(name, NAMED, n=1, cutoff=0.5)
        mean = f"did you mean {near[0]!r}? " if near else ""
        remedy = f"{mean}roles are such as {usual}, and W_Q.bias for a bias; the tensor inventory lists a model's"
        raise PydanticCustomError("unknown_role", "Input should be the role of a tensor", {"remedy": remedy})
    return name


RoleName = Annotated[str, AfterValidator(_role), Field(json_schema_extra={"pattern": _ROLE})]


class Indices(Settings):
    """The matrix that a weight lies in, and its row and column there."""

    layer: Natural | None = Field(None, description="Layer, from 0; null: outside of the layers, as W_E, W_U.")
    role: RoleName | None = Field(
        None,
        description="What the matrix, norm or bias is: W_E, W_Q, W_K, W_V, W_O, W_gate, W_up, W_down, W_U, norm, or "
        "W_Q.bias; null: what the component holds, else W_down.",
    )
    row: Natural | None = Field(
        None, description="Output channel in the logical (out, in) matrix, or index in a norm or bias."
    )
    col: Natural | None = Field(None, description="Input channel; of W_down the neuron.")
    expert: Natural | None = Field(None, description="Expert, where the layer has several.")
    component: str = Field(
        "",
        description="Module below the layer, such as self_attn.o_proj, or a component of the tensor inventory; needed "
        "where a layer has several matrices of the role.",
    )

    @model_validator(mode="after")
    def _lies_somewhere(self) -> "Indices":
        if self.layer is None and self.role is None and not self.component:
            raise PydanticCustomError(
                "no_layer", "This weight lies nowhere", {"remedy": "give its layer, or a role such as W_E or W_U"}
            )
        return self


class Weight(Indices):
    """A weight given by its coordinate."""

    row: Natural = Field(description="Output channel in the logical (out, in) matrix, or index in a norm or bias.")
    col: Natural = Field(description="Input channel; of W_down the neuron.")


class Place(Indices):
    """A weight, or a part of its coordinate that names a whole row, column, head, neuron, expert or matrix."""

    head: Natural | None = Field(
        None, description="Attention head in place of rows (W_Q, W_K, W_V) or columns (W_O); of W_K a key-value head."
    )

    @model_validator(mode="after")
    def _one_index(self) -> "Place":
        if self.head is not None and (self.row is not None or self.col is not None):
            raise PydanticCustomError(
                "two_indices", "A head should stand alone", {"remedy": "give the head, or a row and a col, not both"}
            )
        return self
