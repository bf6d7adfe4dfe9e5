"""The command `weight-atlas`: what an installation can do from a shell."""

import sys
from importlib.metadata import version

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
    """Run the command line; an error ends in one message and exit code 1."""
    try:
        application(sys.argv[1] if sys.argv[1:] else None)(sys.argv[1:], exit_on_error=False, print_error=False)
    except AtlasError as error:
        sys.exit(f"error: {error}")
    except CycloptsError as error:
        sys.exit(f"error: {_explained(error)}")
    except BrokenPipeError:  # into a pager that was left, or head
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if (message := explained(error)) is None:
            raise
        sys.exit(f"error: {message}")
    except KeyboardInterrupt:
        sys.exit(130)


def _explained(error: CycloptsError) -> AtlasError:
    # The nearest name is in the message; the list of all that follows it is what --help shows.
    message = str(error).partition(" Available commands:")[0]
    return AtlasError(message, remedy="weight-atlas --help shows the commands, weight-atlas COMMAND --help its options")
