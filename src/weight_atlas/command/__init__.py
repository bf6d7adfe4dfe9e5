"""The command `weight-atlas`: what an installation can do from a shell."""

import sys
from importlib.metadata import version

from cyclopts import App, CycloptsError

from weight_atlas.command import token_weights
from weight_atlas.command.steps import run_app
from weight_atlas.errors import AtlasError
from weight_atlas.workflow.location import workflow_folder

app = App(
    name="weight-atlas",
    help="Maps of the weights of language models. `weight-atlas run --help` lists the steps.",
    help_format="plaintext",
    version=lambda: version("weight-atlas"),
)
app.command(run_app())
token_weights.register(app)


@app.command
def snakefile() -> None:
    """Print the path of the workflow's Snakefile, for `snakemake --snakefile "$(weight-atlas snakefile)"`."""
    print(workflow_folder() / "Snakefile")


def main() -> None:
    """Run the command line; what is wrong with it is one message and exit code 1."""
    try:
        app(sys.argv[1:], exit_on_error=False, print_error=False)
    except AtlasError as error:
        sys.exit(f"error: {error}")
    except CycloptsError as error:
        sys.exit(f"error: {_explained(error)}")


def _explained(error: CycloptsError) -> AtlasError:
    # The nearest name is in the message; the list of all that follows it is what --help shows.
    message = str(error).partition(" Available commands:")[0]
    return AtlasError(message, remedy="weight-atlas --help shows the commands, weight-atlas run --help the steps")
