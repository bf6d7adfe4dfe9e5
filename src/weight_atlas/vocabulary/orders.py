"""By what neurons of a layer can be ordered. Light: the configuration offers the orders by name."""

# Strongest first: column of the scan and its sign.
ORDERS = {
    name: (column, sign)
    for prefix, kind in (("", ""), ("cosine_", "cos_"))
    for name, column, sign in (
        (f"{prefix}kurtosis", f"{kind}kurt", 1),
        (f"low_{prefix}kurtosis", f"{kind}kurt", -1),
        (f"{prefix}skew", f"{kind}skew", 1),
        (f"negative_{prefix}skew", f"{kind}skew", -1),
        (f"{prefix}variance", f"{kind}var", 1),
        (f"low_{prefix}variance", f"{kind}var", -1),
        (f"{prefix}mean", f"{kind}mean", 1),
        (f"negative_{prefix}mean", f"{kind}mean", -1),
    )
} | {"norm": ("norm", 1)}
