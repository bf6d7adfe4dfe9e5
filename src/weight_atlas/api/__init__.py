"""The library as a library: open a model, ask it for what the steps of the workflow compute.

Every method is the function behind the step of its name, on the same inputs, so that its numbers are those of the
step's tables. Modules that compute are imported by the methods that need them.
"""

import os
from typing import Any

from weight_atlas.api.vocabulary import VocabularyAnalyses
from weight_atlas.checkpoint.fetch import fetch
from weight_atlas.settings.messages import checked
from weight_atlas.settings.models import Opened

__all__ = ["Model", "open"]


class Model(VocabularyAnalyses):
    """One model: its checkpoint, and what the steps of the workflow find in it.

    The inventory, the histograms, the spectra, the vocabulary, the scan of neurons and the live model are kept once
    they are there. What does not apply to a model (no experts, no language-model head) raises NotApplicable, what is
    wrong AtlasError. `settings` are the keys of the class that a method names, which explains them and has their
    defaults: they are those of the configuration.
    """


def open(source: str | os.PathLike[str], *, device: str = "cpu", threads: int = 1, **settings: Any) -> Model:
    """Open a model: "hf://org/name", a folder, a checkpoint file, or "bundled:demo".

    settings: keys of a model's entry in the configuration (settings.models.Opened), such as revision, family, key,
    prefix, dtype and trust_remote_code. device: of what is computed on one, and of forward passes. threads: for what
    can use them. Nothing but the index of the tensors is read; a model on the hub is downloaded into the hub's own
    cache. AtlasError where something is wrong with the settings, the source or its files.
    """
    source = os.fspath(source) if isinstance(source, os.PathLike) else source
    spec = checked(Opened, {"source": source, **settings}, "open")
    return Model(fetch(spec, threads=threads).open(spec), spec, device=device, threads=threads)
