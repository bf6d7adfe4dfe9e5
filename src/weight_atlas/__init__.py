"""Maps of the weights of language models: distributions, spectra, super weights, vocabulary effects, ablations.

    import weight_atlas as wa

    model = wa.open("bundled:demo")

docs/library.md shows the rest. Names are imported when they are first asked for, so that `import weight_atlas` loads
nothing; __init__.pyi says to type checkers what they are. Every step imports this file, and none the modules named
here: an import statement for them would make each a part of every step's code.
"""

from importlib import import_module

_MODULES = {
    "AtlasError": "weight_atlas.errors",
    "Model": "weight_atlas.api",
    "Scope": "weight_atlas.api.scope",
    "NotApplicable": "weight_atlas.errors",
    "open": "weight_atlas.api",
    "read_corpus": "weight_atlas.tokens.corpora",
}
__all__ = ["AtlasError", "Model", "NotApplicable", "Scope", "__version__", "open", "read_corpus"]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return import_module("importlib.metadata").version("weight-atlas")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
