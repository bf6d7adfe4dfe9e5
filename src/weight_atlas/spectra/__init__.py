"""Singular values of weight matrices and what follows from them: ranks, heavy tails, trends, attention kernels."""
