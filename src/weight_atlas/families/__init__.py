"""Model families as data: which tensor plays which role, and how fused tensors are split."""
