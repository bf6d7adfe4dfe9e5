"""Factors on perplexity, from nats per token, and how they are written in a sentence."""

import math

# The largest argument of exp in float64.
LARGEST = math.log(1.7976931348623157e308)


def ratio_of(nats: float) -> float:
    """exp(nats), the factor on perplexity; infinite beyond 709 nats, where float64 ends."""
    return math.exp(nats) if not nats > LARGEST else math.inf


def times(nats: float) -> str:
    """The factor that a rise in nats per token multiplies perplexity by, for a sentence: "1.66", "5,614", "10^128"."""
    if math.isnan(nats):
        return "a number that is not finite"
    if nats < math.log(1e6):
        return written(math.exp(nats))
    power = nats / math.log(10)
    return "an infinite number" if math.isinf(nats) else f"10^{power:.0f}" if power < 1e6 else f"10^({power:.2g})"


def written(number: float) -> str:
    """A positive number for a sentence: four digits, whole numbers from 100 on, powers of ten from a million on."""
    if not math.isfinite(number):
        return "not a number" if math.isnan(number) else "more than 10^308"
    if number >= 1e6:
        return f"10^{math.log10(number):.0f}"
    return f"{number:,.0f}" if number >= 100 else f"{number:.4g}"
