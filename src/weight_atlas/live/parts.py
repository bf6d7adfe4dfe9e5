"""What each parameter of a live model is, by its family's table: roles, experts and layouts, as views to read and edit.

The table's rows say what a tensor on disk is; transformers' operations turn them into rows of the live parameters
(see live_names). Every part is presented in the logical layout (out, in), as a view of the live parameter, so that
writing to it edits the model.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from weight_atlas.dtypes import DTYPES
from weight_atlas.errors import AtlasError
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.layouts import WHOLE, Selection, extract, logical_shape, window
from weight_atlas.families.matching import Match, Matcher
from weight_atlas.families.pieces import Piece, head_columns, pieces_of
from weight_atlas.families.quantities import Quantities
from weight_atlas.families.registry import tensor_list
from weight_atlas.families.roles import Role
from weight_atlas.families.schema import Row
from weight_atlas.live.language_model import LanguageModel
from weight_atlas.live.live_names import Origin, origins

# Types of weights that can be read and set one by one.
EDITABLE = tuple(getattr(torch, dtype.torch) for dtype in DTYPES.values() if dtype.editable)


@dataclass(frozen=True, eq=False)
class Part:
    """One logical tensor of a live model: a role's share of a live parameter.

    role, of_role (for a bias: the role it belongs to), component, stack, layer, expert: as in an inventory. name: of
    the parameter. selection: where the part lies in it. head_dim: rows of a head, of W_O its columns; None where there
    are no heads.
    """

    role: Role
    component: str
    stack: str
    layer: int | None
    expert: int | None
    name: str
    parameter: torch.nn.Parameter
    selection: Selection = WHOLE
    of_role: Role | None = None
    head_dim: int | None = None

    @property
    def module(self) -> str:
        """Path of the module that holds the parameter."""
        return self.name.rpartition(".")[0]

    @property
    def stacked(self) -> bool:
        """Whether the parameter holds several experts."""
        return self.selection.expert is not None

    def view(self) -> torch.Tensor:
        """The part itself: (out, in), or (out,); AtlasError where its rows cannot be seen as one matrix."""
        found = window(self.parameter.data, self.selection)
        try:
            if self.selection.rotary_heads:
                raise RuntimeError
            return found.view(-1, *found.shape[2:]) if self.selection.piece is not None else found
        except RuntimeError:
            raise AtlasError(
                f"{self.role} has no matrix of its own in the live model: its rows lie among others",
                where=self.name,
            ) from None

    def values(self) -> torch.Tensor:
        """The part's values, (out, in) or (out,), to be read: a copy where its rows lie among others."""
        return extract(self.parameter.data, self.selection)

    def at(self, row: int | None, col: int | None) -> torch.Tensor:
        """A view of one of its weights, of a row, of a column, or of all, in the logical layout; None takes all.

        Also where its rows lie among others and it has no view as a matrix: a column, or all, then has more dimensions.
        """
        found = window(self.parameter.data, self.selection)
        if row is not None:
            row = self._stored_row(row)
            found = found[divmod(row, found.shape[1])] if self.selection.piece is not None else found[row]
        return found if col is None or self.vector else found[..., col]

    def _stored_row(self, row: int) -> int:
        """Where a row lies whose head is stored in rotary pairs."""
        if not (heads := self.selection.rotary_heads):
            return row
        rows, _ = self.shape
        head, inside = divmod(row, rows // heads)
        half, pair = divmod(inside, rows // heads // 2)
        return head * (rows // heads) + 2 * pair + half

    @property
    def vector(self) -> bool:
        """Whether it is a bias or the like, and no matrix."""
        return len(logical_shape(tuple(self.parameter.shape), self.selection)) == 1

    @property
    def shape(self) -> tuple[int, int]:
        """Logical (out, in); a vector is a column."""
        rows, *cols = logical_shape(tuple(self.parameter.shape), self.selection)
        return rows, cols[0] if cols else 1


class Unexplained(AtlasError):
    """The live model has matrices that no row of a family's table explains."""


def parts_by_table(model: LanguageModel, architecture: Architecture) -> list[Part]:
    """The parts of a live model in the order of its parameters, by the table of its family.

    Raises Unexplained; vectors that no row explains are parts of role `other`.
    """
    # A tied parameter plays the roles of all its names.
    parameters = dict(model.named_parameters(remove_duplicate=False))
    table, quantities = architecture.family, architecture.quantities
    matcher = Matcher(table, quantities)
    found: dict[str, list[Part]] = {}
    unknown: list[str] = []
    for origin in origins(model):
        tried = [matcher.match(name, shape) for name, shape in origin.stored.items()]
        matches = [match for match in tried if match is not None]
        rows = live_rows(origin, matches) if len(matches) == len(tried) else None
        if rows is None or any(_contradicts(model, *each) for each in zip(origin.live, rows, strict=True)):
            unknown += origin.live
            rows = [Row(role=Role.OTHER, note="unknown")] * len(origin.live)
            matches = [Match(rows[0], "")]
        for name, row in zip(origin.live, rows, strict=True):
            found[name] = list(_parts(name, parameters[name], row, matches[0], quantities, table.stack))
    explained = {id(parameters[name]) for name in parameters.keys() - set(unknown)}
    unknown = [name for name in unknown if parameters[name].ndim > 1 and id(parameters[name]) not in explained]
    if unknown:
        raise Unexplained(
            f"no row of family {table.name} explains {len(unknown)} of {len(parameters)} live parameters as built:\n"
            + tensor_list(unknown),
            where=type(model).__name__,
        )
    return [part for name in parameters for part in found[name]]


def lies_transposed(module: torch.nn.Module) -> bool | None:
    """Whether a module holds its matrix as (in, out); None where its class does not tell."""
    # Code that ships with a checkpoint has its own copy of transformers' Conv1D.
    return True if type(module).__name__ == "Conv1D" else False if isinstance(module, torch.nn.Linear) else None


def _contradicts(model: LanguageModel, name: str, row: Row) -> bool:
    """Whether a module is built the other way round than the row says, as foreign code with a family's names may be."""
    module, _, last = name.rpartition(".")
    lies = lies_transposed(model.get_submodule(module)) if last == "weight" and row.role is not Role.OTHER else None
    return lies is not None and lies != ("transposed" in row.layout)


def live_architecture(model: LanguageModel, family: str | None = None) -> Architecture:
    """The architecture of a live model by its class; Unexplained where no table knows it.

    family: the one to take where the model's configuration does not give one.
    """
    config, names = model.config.to_dict(), [name for name, _ in model.named_parameters(remove_duplicate=False)]
    try:
        return Architecture.resolve(config, names)
    except AtlasError as error:
        if family is not None:
            return Architecture.resolve(config, names, family)
        raise Unexplained(error.what, where=error.where, remedy=error.remedy) from error


def _parts(
    name: str, parameter: torch.nn.Parameter, row: Row, match: Match, quantities: Quantities, stack: str
) -> Iterator[Part]:
    stack, expert = row.stack or stack, None if "stacked" in row.layout else match.expert
    if row.role is Role.OTHER:
        yield Part(Role.OTHER, row.component, "other", match.layer, expert, name, parameter)
        return
    for piece in pieces_of(row, tuple(parameter.shape), expert, quantities, match.layer, stack):
        role, of_role = (Role.BIAS, piece.role) if row.bias else (piece.role, None)
        head_dim = _head_dim(piece, tuple(parameter.shape), name, row, quantities, match.layer, stack)
        yield Part(
            role, row.component, stack, match.layer, piece.expert, name, parameter, piece.selection, of_role, head_dim
        )


def _head_dim(
    piece: Piece, stored: tuple[int, ...], name: str, row: Row, quantities: Quantities, layer: int | None, stack: str
) -> int | None:
    try:
        shape = logical_shape(stored, piece.selection)
        return head_columns(piece, shape, name, row, quantities, layer, stack)["head_dim"]
    except AtlasError:  # the inventory of the checkpoint says what is wrong with its heads
        return None


def live_rows(origin: Origin, matches: list[Match]) -> list[Row] | None:
    """The row of each live parameter, from those of the tensors that it is made of; None where that is not known.

    Experts that are listed on disk are stacked; matrices joined along their outputs are pieces of one; one that is cut
    gives its pieces in order.
    """
    first = matches[0].row
    if not origin.operations:
        return [first]
    roles = tuple(dict.fromkeys(role for match in matches for role in _roles(match.row)))
    layout = _live_layout(origin, first.layout, len(roles))
    if layout is None:
        return None
    if len(origin.live) > 1:
        if len(roles) not in (1, len(origin.live)):
            return None
        each = roles if len(roles) > 1 else roles * len(origin.live)
        return [_row(first, (role,), tuple(word for word in layout if word in _WHOLE)) for role in each]
    return [_row(first, roles, layout)]


def _roles(row: Row) -> tuple[Role, ...]:
    """The role of a row, or those of its pieces."""
    return row.pieces if row.role is None else (row.role,)


_WHOLE = ("stacked", "transposed")  # words of a layout that say nothing about pieces


def _live_layout(origin: Origin, layout: tuple[str, ...], roles: int) -> tuple[str, ...] | None:
    """The layout's words after the operations of loading."""
    from transformers.core_model_loading import Chunk, Concatenate, Interleave, MergeModulelist, Split, Transpose

    words = list(layout)
    for operation in origin.operations:
        match operation:
            case MergeModulelist(dim=0):
                words.insert(0, "stacked")
            case Transpose():
                words = [word for word in words if word != "transposed"] + ["transposed"] * ("transposed" not in words)
            case Interleave() if {"interleaved", "halves"} & {*words}:
                words = [{"interleaved": "halves", "halves": "interleaved"}.get(word, word) for word in words]
            case Concatenate() if operation.dim == ("stacked" in words):
                words += ["halves"] if roles == 2 else ["blocks"] if roles > 1 else []
            case Chunk() | Split() if operation.dim == ("stacked" in words):
                pass
            case _:
                return None
    # In the order in which a layout's words apply.
    return tuple(sorted(words, key=lambda word: _WHOLE.index(word) if word in _WHOLE else len(_WHOLE)))


def _row(row: Row, roles: tuple[Role, ...], layout: tuple[str, ...]) -> Row:
    one = len(roles) == 1
    pieces = {"role": roles[0], "pieces": ()} if one else {"role": None, "pieces": roles}
    return row.model_copy(update={**pieces, "layout": layout, **({"sizes": (), "groups": None} if one else {})})
