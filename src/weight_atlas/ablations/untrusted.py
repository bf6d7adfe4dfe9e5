"""Definitions of tasks by strangers: no code of theirs runs, nothing unfolds without end, and templates end.

The harness reads YAML that may name Python functions, takes metrics that it does not know from the hub as code, and
fills in Jinja templates. Here its own functions are replaced, while it loads a task, by some that refuse.
"""

import os
import resource
import signal
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.sandbox import SandboxedEnvironment

from weight_atlas.errors import AtlasError, refuse_huge
from weight_atlas.yaml_file import check_size

_MOST_BYTES = 1 << 26  # of a definition
_LONGEST, _SECONDS, _MEMORY = 10_000_000, 5.0, 1 << 30  # characters, CPU seconds, bytes of one filled-in template
_LARGEST_EXPONENT = 1000
_TRUST = "read it; if you would install it as a program, set `trust_code: true` for this task"
_MEND = "mend the definition"


@contextmanager
def only_data(folders: Iterable[Path]) -> Iterator[None]:
    """Within the block the harness takes definitions below some folders as data; AtlasError for what is not.

    That is a `!function`, a metric that it has not got itself, an include of what is no file, and aliases or files that
    would fill the memory.
    """
    from lm_eval.api import registry, task
    from lm_eval.tasks import _yaml_loader

    make_loader = _yaml_loader._make_loader

    def refusing(base_dir: Path, *, resolve_funcs: bool) -> type:
        class Loader(make_loader(base_dir, resolve_funcs=resolve_funcs)):  # type: ignore[misc]
            def get_single_node(self) -> Any:
                node = super().get_single_node()
                check_size(node, base_dir)
                for key, value in getattr(node, "value", None) or ():
                    if getattr(key, "value", None) == "include":
                        _check_files(base_dir / name.value for name in _all(value))
                return node

        def refuse(loader: Any, node: Any) -> None:
            raise AtlasError(f"the definition runs Python code: {node.value}", where=base_dir, remedy=_TRUST)

        if resolve_funcs:
            Loader.add_constructor("!function", refuse)
        return Loader

    def known_metric(name: str, hf_evaluate_metric: bool = False) -> Any:
        if hf_evaluate_metric or name not in registry.metric_registry:
            raise AtlasError(f"the metric {name} would be code from the hub", where=name, remedy=_TRUST)
        return get_metric(name)

    for folder in folders:
        _check_files(Path(folder).glob("**/*.yaml"))
    get_metric = task.get_metric
    _yaml_loader._make_loader, task.get_metric = refusing, known_metric
    try:
        yield
    finally:
        _yaml_loader._make_loader, task.get_metric = make_loader, get_metric


def _all(node: Any) -> list[Any]:
    return node.value if isinstance(node.value, list) else [node]


def _check_files(paths: Iterable[Path]) -> None:
    for path in paths:
        if path.exists() and not path.is_file():
            raise AtlasError("the definition is no file", where=path, remedy=_MEND)
        refuse_huge(path, _MOST_BYTES)


class _Bounded(Template):
    """A template that takes so much time and memory, and gives so long a text, at most."""

    def render(self, *given: Any, **named: Any) -> str:
        with _bounds():
            text = super().render(*given, **named)
        if len(text) > _LONGEST:
            raise ValueError(f"a template gives {len(text)} characters, more than {_LONGEST}")
        return text


class Templates(SandboxedEnvironment):
    """Jinja without a way to Python's own insides, and with an end.

    Each template is compiled once: the harness does it again for every document, which takes longer than to fill it in.
    """

    template_class = _Bounded
    intercepted_binops = frozenset({"**"})

    def __init__(self, **options: Any):
        super().__init__(optimized=False, **options)  # which would work out constants outside of the bounds
        self._compiled: dict[str, Template] = {}

    def from_string(self, source: Any, *given: Any, **named: Any) -> Template:
        if source not in self._compiled:
            self._compiled[source] = super().from_string(source, *given, **named)
        return self._compiled[source]

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Powers, which no signal interrupts, with small exponents alone."""
        if abs(right) > _LARGEST_EXPONENT:
            raise ValueError(f"a template takes the power of {right}")
        return super().call_binop(context, operator, left, right)


@contextmanager
def _bounds() -> Iterator[None]:
    # Only the main thread gets signals.
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        yield
        return
    before, (soft, hard) = signal.signal(signal.SIGVTALRM, _too_long), resource.getrlimit(resource.RLIMIT_AS)
    most = _MEMORY + int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (most if soft == resource.RLIM_INFINITY else min(most, soft), hard))
    try:
        yield
    except MemoryError as error:
        raise ValueError("a template needs more than 1 GB of memory") from error
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _too_long(number: int, frame: Any) -> None:
    raise ValueError(f"a template takes more than {_SECONDS:.0f} seconds of a processor")
