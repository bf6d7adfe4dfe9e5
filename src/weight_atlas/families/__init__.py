"""Model families as data: which tensor plays which role, and how fused tensors are split."""

from weight_atlas.families.inventory import inventory, matrices
from weight_atlas.families.pieces import load_piece
from weight_atlas.families.roles import Role

__all__ = ["Role", "inventory", "load_piece", "matrices"]
