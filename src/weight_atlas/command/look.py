"""`weight-atlas open` and `weight-atlas where`: look at results, and at the logs of what failed."""

import re
import webbrowser
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from weight_atlas.command.project import Project
from weight_atlas.command.screen import print_lines
from weight_atlas.errors import AtlasError
from weight_atlas.workflow.location import workflow_folder

Directory = Annotated[Path, Parameter(name="--directory", help="Folder of weight-atlas.yaml.")]
# The first of these that is there is opened.
_PAGES = ("atlas/index.html", "overview/models.md")


def open_page(
    model: str | None = None,
    *,
    directory: Directory = Path(),
    serve: Annotated[
        bool, Parameter(help="Serve the pages on this machine alone; they show single weights, too.")
    ] = False,
    port: Annotated[int, Parameter(help="To serve at; 0: any that is free.")] = 0,
) -> None:
    """Open the pages of the results in a browser: the overview, or the page of a model.

    Without a page yet, `snakemake` makes it; without a browser, the path is printed. With --serve it runs until Ctrl-C,
    and the card of a matrix leads to its elements, read from the checkpoint.
    """
    project = Project(directory)
    if serve:
        _serve(project, "index.html" if model is None else f"models/{project.model(model)}.html", port)
        return
    wanted = _PAGES
    if model is not None:
        name = project.model(model)
        wanted = (f"atlas/models/{name}.html", f"atlas/{name}.md")
    for page in wanted:
        path = project.results / page
        if path.exists():
            print_lines([str(path)])
            webbrowser.open(path.resolve().as_uri())
            return
    raise AtlasError(
        "there is no page yet", where=project.results,
        remedy='make it: snakemake --snakefile "$(weight-atlas snakefile)" --configfile weight-atlas.yaml --cores all',
    )  # fmt: skip


def _serve(project: Project, page: str, port: int) -> None:
    from weight_atlas.command.serve import HOST, server

    if not (project.results / "atlas" / page).is_file():
        raise AtlasError(
            "there is no page yet", where=project.results / "atlas" / page, remedy="run the workflow first"
        )
    with server(project.results, port) as made:
        address = f"http://{HOST}:{made.server_address[1]}/{page}"
        print_lines([f"{address} (Ctrl-C ends it)"])
        webbrowser.open(address)
        with suppress(KeyboardInterrupt):
            made.serve_forever()


def where(step: str | None = None, *, directory: Directory = Path()) -> None:
    """Print where results and logs lie: of a step its files, and by itself the logs of all that failed."""
    project = Project(directory)
    logs = project.directory / project.folder("logs")
    if step is not None:
        found = [path for folder in (project.results, logs) for path in _files_of(folder, step)]
        if not found:
            raise AtlasError(f"nothing of a step {step}", where=project.directory, remedy="ls results lists them")
        print_lines(map(str, found))
        return
    print_lines([f"results: {project.results}", f"logs: {logs}", f"asked for: {project.path}"])
    print_lines(f"failed: {path}: {message}" for path, message in failed_logs(logs))


def snakefile() -> None:
    """Print the path of the workflow's Snakefile, for `snakemake --snakefile "$(weight-atlas snakefile)"`."""
    print(workflow_folder() / "Snakefile")


def failed_logs(logs: Path) -> list[tuple[Path, str]]:
    """The logs of steps that ended with an error, with what each says first of it."""
    found = []
    for path in sorted(logs.rglob("*.log")):
        text = path.read_text(encoding="utf-8", errors="replace")
        message = re.search(r"^(?:error: (.*)|(\w+(?:Error|Exception)(?:: .*)?))$", text, flags=re.M)
        if message:
            found.append((path, message[1] or message[2]))
    return found


def _files_of(folder: Path, step: str) -> list[Path]:
    below = folder / step
    alone = [path for path in (folder / f"{step}.log",) if path.exists()]
    return alone + sorted(path for path in below.rglob("*") if path.is_file())
