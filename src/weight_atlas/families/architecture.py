"""What a model is by its config.json and the table of its family: resolved once, then handed on."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from weight_atlas.families.adapters import is_adapter
from weight_atlas.families.quantities import Quantities, flat
from weight_atlas.families.registry import find_family
from weight_atlas.families.schema import COMMON, Family, load_family

if TYPE_CHECKING:
    from weight_atlas.checkpoint.checkpoint import Checkpoint


@dataclass(frozen=True)
class Architecture:
    """A model's family with its configuration.

    config: config.json, or what a format has in its place. adapter: whether the checkpoint is an adapter, which only
    changes another model.
    """

    family: Family
    config: Mapping[str, Any]
    adapter: bool = False

    @classmethod
    def of(cls, checkpoint: "Checkpoint", family: str | None = None, *, allow_other: bool = False) -> "Architecture":
        """The architecture of a checkpoint; family and allow_other as in find_family, family by default its own."""
        names = checkpoint.entries
        return cls.resolve(checkpoint.config, names, family or checkpoint.family, allow_other=allow_other)

    @classmethod
    def resolve(
        cls, config: Mapping[str, Any], names: Collection[str] = (), family: str | None = None, *,
        allow_other: bool = False,
    ) -> "Architecture":  # fmt: skip
        """The architecture of a model by its config.json and the names of its tensors; see find_family."""
        return cls(find_family(config, names, family, allow_other), config, is_adapter(config, names))

    @classmethod
    def common(cls, config: Mapping[str, Any]) -> "Architecture":
        """What config.json says by the keys that most families share, for a model that no table knows."""
        return cls(load_family(COMMON), config)

    @cached_property
    def quantities(self) -> Quantities:
        """The numbers in the configuration, by name."""
        return Quantities(self.family, self.config)

    @property
    def name(self) -> str:
        """The class in config.json, or ""."""
        return next(iter(self.config.get("architectures") or []), "")

    @property
    def norm(self) -> str:
        """What the family's norms compute (of NORMS), unless a row of its table says otherwise; "" if not known."""
        return self.quantities.fact("norm") or ""

    @property
    def stores_final_norm(self) -> bool:
        """Whether the model stores a norm between its last layer and its unembedding."""
        return self.quantities.fact("final_norm") is None

    @property
    def final_norm_without_parameters(self) -> str:
        """What the final norm computes where it has no parameters to store; "" where there is none of that kind."""
        return self.norm if self.quantities.fact("final_norm") == "without parameters" else ""

    @property
    def norm_eps(self) -> float:
        """The constant that norms add before they divide; 0 where config.json does not give it."""
        return float(self.quantities.of("norm_eps") or 0.0)

    @cached_property
    def logit_scale(self) -> float:
        """What the model multiplies its logits by (Cohere, Granite, Falcon-H1, MiniCPM, MPT); 1 for most."""
        return self.quantities.scale("logits")

    @property
    def logit_softcap(self) -> float | None:
        """c of c tanh(logit / c), or None."""
        return self.quantities.of("logit_softcap") or None

    @cached_property
    def mlp_scale(self) -> float:
        """What the model multiplies each MLP's addition to the residual stream by (Granite, MiniCPM); 1 for most."""
        return self.quantities.scale("mlp")

    @cached_property
    def routed_scale(self) -> float:
        """What the model multiplies what its routed experts give by, beside their routing weights; 1 for most."""
        return self.quantities.scale("routed")

    @property
    def context(self) -> int | None:
        """The longest sequence that the model takes, in tokens, where its configuration says."""
        value = self.quantities.of("context")
        return value if isinstance(value, int) and value > 0 else None

    @property
    def tied_embeddings(self) -> bool | None:
        """Whether config.json says that the token embedding is also the unembedding; None: it does not say.

        Composite models say it in several places that may disagree: the outermost counts, since the head belongs to
        the whole model, and that of the language part where the outermost is silent.
        """
        tied = self.config.get("tie_word_embeddings")
        tied = flat(self.config).get("tie_word_embeddings") if tied is None else tied
        return None if tied is None else bool(tied)
