"""The names of the bundled tasks. Light: the workflow reads it."""

from weight_atlas.errors import unknown_name

BUNDLED = "bundled:"
BUNDLED_TASKS = ("order", "documents", "phrase")


def bundled_task(name: str | None) -> str | None:
    """The bundled task that a task's `name` means, None for any other; an AtlasError for one that does not exist."""
    if name is None or not name.startswith(BUNDLED):
        return None
    task = name.removeprefix(BUNDLED)
    if task not in BUNDLED_TASKS:
        raise unknown_name("name", task, BUNDLED_TASKS, "the bundled tasks")
    return task
