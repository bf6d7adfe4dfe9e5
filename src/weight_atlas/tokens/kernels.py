"""How the loops over bytes are compiled."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import cgutils
from numba.extending import intrinsic

# Modules of which compiled functions consist.
_MODULES = (
    "characters",
    "cutting",
    "kernels",
    "merges",
    "piece_table",
    "pieces",
    "splitting",
    "tries",
    "unigram_kernels",
    "word_piece_kernels",
)
_SOURCES = hashlib.sha256(
    b"".join(Path(__file__).with_name(f"{name}.py").read_bytes() for name in _MODULES)
).hexdigest()


def compiled(function: Callable) -> Any:
    """Compile a function, and cache the machine code for other processes where the cache folder can be written.

    numba takes cached code for valid as long as the function's own file stays, though functions of other files are part
    of it; here it is valid as long as all of these files stay.
    """
    try:
        dispatcher: Any = numba.njit(nogil=True, cache=True)(function)
        dispatcher._cache._cache_file._source_stamp = _SOURCES
    except (RuntimeError, AttributeError):  # no folder to write to, or another numba
        return numba.njit(nogil=True)(function)
    return dispatcher


def inlined(function: Callable) -> Any:
    """Compile a function into those that call it: handing arrays over takes longer than what is done for a piece."""
    return numba.njit(nogil=True, forceinline=True)(function)


@intrinsic
def borrowed(typing_context: Any, array: Any) -> Any:
    """The same array, to which references are not counted: that takes longer than small functions that are given it.

    The caller holds the array.
    """

    def same_data(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        struct = context.make_array(array)(context, builder, arguments[0])
        for owner in ("meminfo", "parent"):
            setattr(struct, owner, cgutils.get_null_value(getattr(struct, owner).type))
        return struct._getvalue()

    return array(array), same_data
