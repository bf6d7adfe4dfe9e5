"""The library as a library: open a model, ask it for what the steps of the workflow compute.

Every method is the function behind the step of its name, on the same inputs, so that its numbers are those of the
step's tables. Modules that compute are imported by the methods that need them.
"""

from weight_atlas.api.vocabulary import VocabularyAnalyses
from weight_atlas.checkpoint.fetch import fetch
from weight_atlas.checkpoint.source import CheckpointSpec

__all__ = ["Model", "open"]


class Model(VocabularyAnalyses):
    """One model: its checkpoint, and what the steps of the workflow find in it.

    The inventory, the histograms, the spectra, the vocabulary, the scan of neurons and the live model are kept once
    they are there. What does not apply to a model (no experts, no language-model head) raises NotApplicable, what is
    wrong AtlasError. `settings` are the keyword arguments of the function that a method names, which explains them.
    """


def open(
    source: str,
    *,
    revision: str | None = None,
    family: str | None = None,
    key: str | None = None,
    prefix: str | None = None,
    allow_other: bool = False,
    trust_remote_code: bool = False,
    device: str = "cpu",
    dtype: str = "auto",
    threads: int = 1,
) -> Model:
    """Open a model: "hf://org/name", a folder, a checkpoint file, or "bundled:demo".

    revision: branch, tag or commit of a model on the hub, which is downloaded into the hub's own cache. family, key,
    prefix, allow_other, trust_remote_code: as in the configuration. device, dtype: of what is computed on a device and
    of forward passes ("auto": bfloat16 on "cuda", float32 on "cpu"). threads: for what can use them. Nothing but the
    index of the tensors is read. AtlasError where something is wrong with the source or its files.
    """
    spec = CheckpointSpec(source, revision, family, key, prefix, allow_other, trust_remote_code)
    checkpoint = fetch(spec, threads=threads).open(spec)
    return Model(checkpoint, source, trust_remote_code=trust_remote_code, device=device, dtype=dtype, threads=threads)
