"""Which extra of the installation brings a package that is not there."""

from weight_atlas.errors import AtlasError

EXTRAS = {"datasets": "eval", "lm_eval": "eval"}


def missing_extra(error: ModuleNotFoundError) -> AtlasError | None:
    """The message for an import that an extra of this project would serve; None for any other."""
    package = (error.name or "").split(".")[0]
    if (extra := EXTRAS.get(package)) is None:
        return None
    return AtlasError(
        f"the package {package} is not installed",
        remedy=f'install it with the extra {extra}: pip install "weight-atlas[{extra}]", '
        f'or in a clone pip install -c requirements.lock -e ".[{extra}]"',
    )
