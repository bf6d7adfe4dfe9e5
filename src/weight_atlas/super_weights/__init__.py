"""Single weights of MLP output projections on which a whole model depends: screening, detection, verification."""
