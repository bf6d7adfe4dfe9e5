"""The types that each tool can give a tensor: what they take, and which scheme or block format they round by.

llama.cpp: ggml's types, with the sizes of their blocks (ggml-quants.h). llm-compressor: presets of compressed-tensors.
bitsandbytes: NF4 in blocks of 64 with a float32 scale, LLM.int8 by output row. torchao: weight-only configurations.
GPTQModel: symmetric integers in groups of 128. The integers of llm-compressor and GPTQModel use the whole range.
"""

from dataclasses import dataclass

from weight_atlas.quantization.formats import FORMATS
from weight_atlas.quantization.quantizers import Scheme, bits_per_weight

SIXTEEN = "16 bit"


@dataclass(frozen=True)
class StoredType:
    """A type of a tool.

    name: in the tool's words. block: weights that a row must be a multiple of. scheme: that it rounds by; "" for ggml's
    block formats and for 16 bits, whose size is `bits`. extra: bits of each group or row that the scheme's own count
    leaves out, such as scales in 32 bits.
    """

    name: str
    block: int = 1
    scheme: str = ""
    bits: float = 16.0
    extra: int = 0

    @property
    def nominal_bits(self) -> float:
        """Bits of a weight, without the scales of a scheme."""
        return FORMATS[Scheme.named(self.scheme).format].bits if self.scheme else self.bits

    def size(self, rows: int, cols: int) -> float:
        """Bits of a matrix."""
        if not self.scheme:
            return self.bits * rows * cols
        scheme = Scheme.named(self.scheme)
        groups = rows * (-(-cols // scheme.block) if scheme.block else 1)
        return bits_per_weight((rows, cols), scheme) * rows * cols + self.extra * groups

    def fits(self, cols: int) -> bool:
        """Whether rows of this length can have it."""
        return cols % self.block == 0


_GGML = {
    "q2_K": (256, 2.625), "q3_K": (256, 3.4375), "q4_K": (256, 4.5), "q5_K": (256, 5.5), "q6_K": (256, 6.5625),
    "q4_0": (32, 4.5), "q4_1": (32, 5.0), "q5_0": (32, 5.5), "q5_1": (32, 6.0), "q8_0": (32, 8.5), "f16": (1, 16.0),
}  # fmt: skip
_WHOLE = StoredType(SIXTEEN)
TYPES: dict[str, tuple[StoredType, ...]] = {
    "llama.cpp": tuple(StoredType(name, block, bits=bits) for name, (block, bits) in _GGML.items()),
    "llm-compressor": (
        StoredType("W4A16", 128, "int4/group:128/full"),
        StoredType("NVFP4A16", 16, "nvfp4/group:16"),
        StoredType("W8A16", 1, "int8/channel/full"),
        _WHOLE,
    ),
    "bitsandbytes": (
        StoredType("nf4", 1, "nf4/group:64", extra=16),
        StoredType("int8", 1, "int8/channel", extra=16),
        _WHOLE,
    ),
    "torchao": (
        StoredType("int4, group 128", 128, "int4/group:128/asymmetric"),
        StoredType("int4, group 32", 32, "int4/group:32/asymmetric"),
        StoredType("int8", 1, "int8/channel"),
        _WHOLE,
    ),
    "gptqmodel": (
        *(StoredType(f"{bits} bit", 128, f"int{bits}/group:128/full") for bits in (2, 3, 4, 8)),
        _WHOLE,
    ),
}
# A model has one of them beside 16 bits.
EXCLUSIVE = {"bitsandbytes": ("nf4", "int8")}
