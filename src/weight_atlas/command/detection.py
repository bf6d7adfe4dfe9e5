"""The options of the detection of super weights, shared by the commands that need it."""

from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Group, Parameter

DETECTION = Group("Detection", sort_key=3)
MIXTURES = Group("Mixtures of experts", sort_key=4)


@Parameter(name="*")
@dataclass(frozen=True)
class Detection:
    """Options of detection; None where one is not given."""

    spike_threshold: Annotated[
        float | None, Parameter(group=DETECTION, help="Published procedure: what |input| and |output| must exceed.")
    ] = None
    max_iterations: Annotated[int | None, Parameter(group=DETECTION, help="Published procedure: rounds, at most.")] = (
        None
    )
    router_analysis_samples: Annotated[
        int | None, Parameter(group=MIXTURES, help="Windows of text in which routing is looked at.")
    ] = None
    p_active_floor: Annotated[
        float | None, Parameter(group=MIXTURES, help="Share of the tokens that must reach an expert.")
    ] = None
    co_spike_threshold: Annotated[
        float | None, Parameter(group=MIXTURES, help="Published threshold of the co-spike score.")
    ] = None

    @property
    def of_experts(self) -> dict[str, Any]:
        """The keys of the configuration that options on mixtures of experts mean."""
        return {
            "expert_routing.router_analysis_samples": self.router_analysis_samples,
            "expert_routing.p_active_floor": self.p_active_floor,
            "expert_routing.co_spike_threshold": self.co_spike_threshold,
        }

    @property
    def keys(self) -> dict[str, Any]:
        """The keys of the configuration that the options mean."""
        found = {
            "super_weights.spike_threshold": self.spike_threshold,
            "super_weights.max_iterations": self.max_iterations,
        }
        return found | self.of_experts


ANY = Detection()
