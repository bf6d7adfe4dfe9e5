"""Regular expressions of pre-tokenizers that are known, and how the compiled cutting follows each."""

from typing import NamedTuple

from weight_atlas.tokens.cutting import DEEPSEEK, GPT2, LLAMA3, O200K

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_CAPITALS, _SMALL = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"

GPT2_EXPRESSION = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
# Of DeepSeek V3, one after the other.
DEEPSEEK_EXPRESSIONS = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"""
    + "\r\n"
    + r"""\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+["""
    + "\r\n"
    + r"""]*|\s*["""
    + "\r\n"
    + r"""]+|\s+(?!\S)|\s+""",
)


class Known(NamedTuple):
    """How an expression is followed: see cutting.Cutting."""

    kind: int
    digits: int = 3
    suffix: bool = False
    slash: bool = False


def llama3_expression(digits: str) -> str:
    r"""Llama 3's expression; Qwen's takes digits one by one. digits: r"\p{N}{1,3}" or r"\p{N}"."""
    return rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACE}"


def o200k_expression(digits: str, suffix: str) -> str:
    """The expression of o200k, and of models that leave out its contractions (suffix "")."""
    prefix = r"[^\r\n\p{L}\p{N}]?"
    words = rf"{prefix}{_CAPITALS}*{_SMALL}+{suffix}|{prefix}{_CAPITALS}+{_SMALL}*{suffix}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACE}"


_THREE, _ONE = r"\p{N}{1,3}", r"\p{N}"
KNOWN: dict[tuple[str, ...], Known] = {
    (GPT2_EXPRESSION,): Known(GPT2),
    (llama3_expression(_THREE),): Known(LLAMA3),
    (llama3_expression(_ONE),): Known(LLAMA3, digits=1),
    (o200k_expression(_THREE, f"{_CONTRACTIONS}?"),): Known(O200K, suffix=True, slash=True),
    (o200k_expression(_THREE, ""),): Known(O200K, slash=True),
    (o200k_expression(_ONE, ""),): Known(O200K, digits=1, slash=True),
    DEEPSEEK_EXPRESSIONS: Known(DEEPSEEK),
}
