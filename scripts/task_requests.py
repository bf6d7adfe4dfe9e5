"""The requests of one task, built and tokenized for one model."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_json, write_table
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.settings.models import OwnCode
from weight_atlas.settings.tasks import Task
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    definition: Path | None = None,
    data: Path | None = None,
    *,
    requests: Path,
    description: Path,
    task: str,
    settings: Task,
    own: OwnCode,
) -> None:
    """Write the requests of a task of lm-evaluation-harness, and what is to be known about the task.

    definition, data: a task's YAML and its items, in place of a name.
    """
    from weight_atlas.ablations.encoder import encoder
    from weight_atlas.ablations.requests import build_requests, chance_levels, data_of
    from weight_atlas.ablations.tasks import definition_folders, load_tasks, own_folders
    from weight_atlas.tokens.tokenizer import load_tokenizer

    opened, name = open_checkpoint(checkpoint), settings.name or task
    if data is not None:
        read_table(data)  # one that the corpus does not make says so, and has no requests
    known = [] if definition or settings.folder else definition_folders(name)
    folders = [Path(settings.folder)] if settings.folder else own_folders(known)
    loaded = load_tasks(
        name,
        definition=definition,
        data=data,
        folders=folders,
        mirror=Path(settings.mirror) if settings.mirror else None,
        trust_code=settings.trust_code,
        fewshot=settings.fewshot,
        seed=settings.seed,
    )
    own_code = {"trust_remote_code": own.trust_remote_code}
    lm = encoder(opened, load_tokenizer(opened.folder, **own_code), **own_code)
    table = build_requests(loaded, lm, limit=settings.limit, truncate=settings.truncate, name=name)
    write_table(requests, table)
    about = {"chance": chance_levels(loaded, table), "data": data_of(loaded, table)}
    write_json(
        description,
        {"name": name, "folders": known, **settings.model_dump(include={"limit", "fewshot", "seed"}), **about},
    )
    print(f"{len(table)} requests of {len(loaded['tasks'])} tasks", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
