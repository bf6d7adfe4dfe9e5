"""Settings of sliding windows checked against corpus and model, and what would fit where they do not."""

from dataclasses import dataclass, replace
from typing import Any

# Fewer windows than this make bootstrap intervals too narrow.
ENOUGH_WINDOWS = 10
# Tokens of a window by default, and the fewest that are recommended.
LONGEST, SHORTEST = 1024, 8


@dataclass(frozen=True)
class WindowPlan:
    """Checked settings of sliding windows.

    window_len: tokens of a window, prefix included. stride: new tokens from one window to the next. available: tokens
    of the corpus that were read. prefix: special tokens before each window. context: the model's longest sequence.
    problems: why no windows can be made; advice: what is weak about them. recommended: the largest settings that work
    with the tokens available, for_intervals: the largest that give enough windows, raised_tokens: `tokens` with which
    window_len and stride can stay; None where there are none, or no problem.
    """

    window_len: int
    stride: int
    tokens: int | None
    available: int
    prefix: tuple[int, ...]
    context: int | None
    drop_first_token: bool
    problems: tuple[str, ...]
    advice: tuple[str, ...]
    recommended: dict[str, int] | None
    for_intervals: dict[str, int] | None
    raised_tokens: int | None

    @property
    def content(self) -> int:
        """Tokens of text in a window."""
        return self.window_len - len(self.prefix)

    @property
    def windows(self) -> int:
        """Number of windows that fit."""
        return 0 if self.problems else 1 + (self.available - self.content) // self.stride

    @property
    def tokens_scored(self) -> int:
        """Tokens of text that are scored in some window."""
        if self.problems:
            return 0
        # With a stride of whole windows each has a first token of its own.
        firsts = self.windows if self.stride == self.content else 1
        unscored = firsts if self.drop_first_token or not self.prefix else 0
        return self.content + (self.windows - 1) * self.stride - unscored

    def report(self) -> dict[str, Any]:
        """The plan in plain values."""
        return {
            "window_len": self.window_len,
            "stride": self.stride,
            "tokens": self.tokens,
            "tokens_available": self.available,
            "tokens_scored": self.tokens_scored,
            "prefix": list(self.prefix),
            "context": self.context,
            "drop_first_token": self.drop_first_token,
            "windows": self.windows,
            "problems": list(self.problems),
            "advice": list(self.advice),
            "recommended": self.recommended,
            "recommended_for_intervals": self.for_intervals,
            "raised_tokens": self.raised_tokens,
        }

    def remedy(self) -> str:
        """Settings that would work, in one line."""
        ways = [f"tokens: {self.raised_tokens}"] if self.raised_tokens else []
        ways += [_settings(each) for each in (self.recommended, self.for_intervals) if each]
        names = ["(the corpus has them)"] if self.raised_tokens else []
        names += ["(the largest that work)"] if self.recommended else []
        names += [f"({ENOUGH_WINDOWS} windows, for intervals)"] if self.for_intervals else []
        choices = [f"{way} {name}" for way, name in zip(ways, names, strict=True)]
        return "set in `windows`: " + ", or ".join(choices) if choices else "give more text"

    def text(self) -> str:
        """The plan as lines to read."""
        lines = [
            f"window_len {self.window_len}, stride {self.stride}, tokens {self.tokens}, "
            f"drop_first_token {str(self.drop_first_token).lower()}",
            f"corpus: {self.available} tokens; model: context of {self.context or 'unknown length'}, "
            f"{len(self.prefix)} special tokens before each window",
            *(f"problem: {problem}" for problem in self.problems),
            *(f"advice: {advice}" for advice in self.advice),
        ]
        if not self.problems:
            lines.append(f"{self.windows} windows, {self.tokens_scored} tokens scored")
        return "\n".join(lines)


def plan_windows(
    available: int,
    *,
    window_len: int | None = None,
    stride: int | None = None,
    tokens: int | None,
    drop_first_token: bool = False,
    prefix: tuple[int, ...] = (),
    context: int | None = None,
    beyond: int | None = None,
) -> WindowPlan:
    """Check the settings of sliding windows; nothing is raised, the plan lists what is wrong.

    available: tokens that the corpus gives, at most `tokens`; beyond: that it would give with more `tokens`, where that
    is known. window_len: None takes 1024, or the model's context or what the corpus allows where that is less. stride:
    None takes half a window. Two windows are the least, since intervals come from differences between windows: tokens
    >= window_len + stride, less the prefix.
    """
    n_prefix = len(prefix)
    longest = min(LONGEST, context or LONGEST) if window_len is None else window_len
    if window_len is None:
        window_len = min(longest, max(4, 2 * (available + n_prefix) // 3))
    stride = max(1, window_len // 2) if stride is None else stride
    problems = _problems(available, window_len, stride, tokens, drop_first_token, n_prefix, context)
    recommended = for_intervals = raised = None
    if problems:
        limit = min(longest if longest >= SHORTEST else LONGEST, context or LONGEST)
        recommended = _largest(available, n_prefix, limit, 2, stride)
        for_intervals = _largest(available, n_prefix, limit, ENOUGH_WINDOWS, stride)
        wanted = window_len - n_prefix + (ENOUGH_WINDOWS - 1) * stride
        if beyond is not None and beyond > available:
            more = plan_windows(
                beyond, window_len=window_len, stride=stride, tokens=beyond, drop_first_token=drop_first_token,
                prefix=prefix, context=context,
            )  # fmt: skip
            raised = None if more.problems else min(beyond, wanted)
    plan = WindowPlan(
        window_len, stride, tokens, available, tuple(prefix), context, drop_first_token, tuple(problems), (),
        recommended, for_intervals, raised,
    )  # fmt: skip
    return plan if problems else _with_advice(plan)


def _problems(
    available: int, window_len: int, stride: int, tokens: int | None, drop: bool, n_prefix: int, context: int | None
) -> list[str]:
    content = window_len - n_prefix
    problems = []
    if context is not None and window_len > context:
        problems.append(f"window_len {window_len} exceeds the model's context of {context}")
    if content < 2:
        problems.append(f"window_len {window_len} leaves less than two tokens beside {n_prefix} special ones")
    if stride < 1:
        problems.append(f"stride {stride} is less than 1: windows would not move on")
    if content < 2 or stride < 1:
        return problems
    if stride > content:
        problems.append(f"stride {stride} exceeds the {content} tokens of text in a window: some would never be scored")
    elif drop and n_prefix and stride == content and content < 3:
        problems.append("drop_first_token leaves nothing to score in windows as short as this")
    if tokens is not None and tokens < content + stride:
        problems.append(f"tokens {tokens} is less than window_len + stride less the prefix = {content + stride}")
    elif available < content + stride:
        problems.append(f"the corpus has {available} tokens, two windows take {content + stride}")
    return problems


def _with_advice(plan: WindowPlan) -> WindowPlan:
    advice = []
    if plan.windows < ENOUGH_WINDOWS:
        advice.append(
            f"only {plan.windows} windows: take more tokens or shorter windows for intervals that can be trusted"
        )
    if plan.tokens is not None and plan.available < plan.tokens:
        advice.append(f"the corpus gave {plan.available} of the {plan.tokens} tokens asked for")
    rest = (plan.available - plan.content) % plan.stride
    if rest:
        advice.append(f"the last {rest} tokens fill no stride and are left out")
    if not plan.prefix and plan.stride == plan.content:
        advice.append(
            f"the first token of each of the {plan.windows} windows is not scored, since nothing stands before it; "
            "a shorter stride, or bos: always, scores it"
        )
    if plan.drop_first_token and not plan.prefix:
        advice.append("drop_first_token has no effect: without a special token before it, the first is never scored")
    return replace(plan, advice=tuple(advice))


def _largest(available: int, n_prefix: int, limit: int, windows: int, stride: int) -> dict[str, int] | None:
    """The longest windows of which so many fit, with the given stride, or with half a window if that is longer."""
    kept = min(limit, available + n_prefix - (windows - 1) * stride)
    if not 1 <= stride <= kept - n_prefix:
        kept = 0
    # (length - prefix) + (windows - 1) * length / 2 <= available
    halved = min(limit, 2 * (available + n_prefix) // (windows + 1) + 1)
    while halved > 0 and halved - n_prefix + (windows - 1) * (halved // 2) > available:
        halved -= 1
    length, step = (kept, stride) if kept >= halved else (halved, halved // 2)
    if length < SHORTEST or step > length - n_prefix:
        return None
    return {"window_len": length, "stride": step, "tokens": available}


def _settings(recommended: dict[str, int]) -> str:
    return "; ".join(f"{key}: {value}" for key, value in recommended.items())
