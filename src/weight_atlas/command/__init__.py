"""The command `weight-atlas`: what an installation can do from a shell."""

import os
import signal
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from cyclopts import App, CycloptsError, Parameter

from weight_atlas.errors import AtlasError, explained

# Modules of this package with their commands, in the order of the help; each is imported when it is called.
COMMANDS = {
    "scan": ("scan:scan", "Scan the weights of models: graded findings, and the worst of each table beside its null."),
    "compare": ("compare:compare", "Compare two models: what changed, where, and how much."),
    "series": ("across:series", "Follow the checkpoints of a training run."),
    "lineage": ("across:lineage", "Tell which models come from which."),
    "inspect": ("inspect_headers:inspect", "Show what a model is made of, from the headers of its files alone."),
    "super-weights": ("super_weights:super_weights", "Find the weights that a model depends on, and prove them."),
    "vocabulary": ("vocabulary:vocabulary", "Measure what neurons and super weights do to the words predicted."),
    "evaluate": ("evaluate:evaluate", "Evaluate models on tasks of lm-evaluation-harness."),
    "recipe": ("recipe:recipe", "Choose number formats for a size, and write what a tool reads."),
    "open": ("look:open_page", "Open the pages of the results in a browser."),
    "where": ("look:where", "Print where results and logs lie, and what failed."),
    "estimate": ("estimate:estimate", "Estimate what the steps that run models will cost; nothing runs."),
    "why": ("why:why", "Say what made a file of the results: step, inputs, settings, code, versions."),
    "check": ("check:check", "Check all results against the digests that their steps recorded."),
    "run": ("steps:app", "Run one step of the workflow on files."),
    "weight-cdf": ("token_weights:weight_cdf", "Draw the distribution of token weights."),
    "token-count-cdf": ("token_weights:token_count_cdf", "Draw how rare tokens are in a corpus."),
    "weight-analysis": ("token_weights:weight_analysis", "Compare token weights with how often tokens occur."),
    "count-tokens": ("token_weights:count_tokens", "Count every token of some texts."),
    "token-mask": ("token_weights:token_mask", "Make the mask of tokens that occur often enough."),
    "snakefile": ("look:snakefile", "Print the path of the workflow's Snakefile."),
}


def application(called: str | None) -> App:
    """The command line: full help for the command that is called, one line for each of the others."""
    app = App(
        name="weight-atlas",
        help="Maps of the weights of language models. `weight-atlas scan MODEL` is where to begin.",
        help_format="markdown",
        version=lambda: version("weight-atlas"),
        default_parameter=Parameter(negative=()),
    )
    for number, (name, (place, summary)) in enumerate(COMMANDS.items()):
        help_ = {} if name == called else {"help": summary}
        app.command(f"weight_atlas.command.{place}", name=name, sort_key=number, **help_)
    app.register_install_completion_command()
    return app


def main() -> None:
    """Run the command line; an error ends in one message and exit code 1.

    With --json an error is a JSON document on standard output, too. Where nobody reads that any more, as after
    `| head`, the process ends by SIGPIPE, as those of Unix tools do.
    """
    try:
        try:
            _run(sys.argv[1:])
        finally:
            if sys.stdout is not None:  # it was closed before this process began
                sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.raise_signal(signal.SIGPIPE)
    except OSError as error:  # a full disk below standard output
        if (message := explained(error, Path("standard output"))) is None:
            raise
        _discard_output()
        sys.exit(f"error: {message}")


def _run(arguments: list[str]) -> None:
    try:
        application(arguments[0] if arguments else None)(arguments, exit_on_error=False, print_error=False)
    except AtlasError as error:
        _fail(str(error), arguments)
    except CycloptsError as error:
        _fail(str(_explained(error)), arguments)
    except BrokenPipeError:
        raise
    except OSError as error:
        if (message := explained(error)) is None:
            raise
        _fail(str(message), arguments)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message: str, arguments: list[str]) -> NoReturn:
    if "--json" in arguments:
        from weight_atlas.command.engine import Failure
        from weight_atlas.command.formats import as_json

        print(as_json([], [Failure(message)]), end="")
    sys.exit(f"error: {message}")


def _discard_output() -> None:
    """Have what standard output still holds go nowhere, lest the interpreter complains at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _explained(error: CycloptsError) -> AtlasError:
    # The nearest name is in the message; the list of all that follows it is what --help shows.
    message = str(error).partition(" Available commands:")[0]
    return AtlasError(message, remedy="weight-atlas --help shows the commands, weight-atlas COMMAND --help its options")
