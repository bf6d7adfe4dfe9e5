"""The requests of a task, built and tokenized once: they are the same for every edit of the model's weights."""

import hashlib
import json
import re
from typing import Any

import pandas as pd

from weight_atlas.ablations.task_errors import not_built
from weight_atlas.errors import AtlasError, NotApplicable

COLUMNS = ("task", "doc_id", "idx", "repeats", "type", "arguments", "context_ids", "continuation_ids", "document")
_MOST_REPEATS = 1000
REVISION = re.compile("@([0-9a-f]{40})/")


def build_requests(loaded: dict[str, Any], lm: Any, *, limit: float | None, truncate: bool, name: str) -> pd.DataFrame:
    """Return one row per request of all tasks, in the harness's order.

    loaded: see tasks.load_tasks. lm: a harness model that encodes (see encoder.Encoder); its `max_length` is the
    context. limit: documents of each task, or a share of them if below 1. Columns: task, doc_id, idx (among the
    document's requests), repeats, type, arguments (JSON), context_ids, continuation_ids (tokens), document (digest of
    the document with its answer). Raises AtlasError where requests cannot be built, and where they exceed the context,
    unless truncate lets the harness cut them from the left.
    """
    from lm_eval.evaluator_utils import get_sample_size

    check_limit(limit, name)
    rows = []
    for task_name, task in loaded["tasks"].items():
        _check_kind(task, task_name)
        try:
            task.build_all_requests(limit=get_sample_size(task, limit), rank=0, world_size=1)
            digests = {instance.doc_id: _digest(task, instance.doc) for instance in task.instances}
        except Exception as error:
            # The harness's assertions, templates and functions of definitions raise types of their own.
            raise not_built(task_name, error, task) from error
        rows += [(*_row(task_name, instance, lm), digests[instance.doc_id]) for instance in task.instances]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    _check_length(table, lm.max_length, truncate, name)
    return table


def chance_levels(loaded: dict[str, Any], requests: pd.DataFrame) -> dict[str, float]:
    """The accuracy of guessing in each task: the mean of 1 / choices over its documents; 0 without choices."""
    levels = {}
    for name, task in loaded["tasks"].items():
        own = requests[requests.task == name]
        choices = own.groupby("doc_id").size()
        if "acc_mutual_info" in getattr(task, "_metric_fn_list", {}):
            choices = choices // 2  # each choice is also scored without its question
        multiple = task.OUTPUT_TYPE == "multiple_choice"
        levels[name] = float((1 / choices).mean()) if multiple else 0.0
    return levels


def check_limit(limit: float | None, name: str) -> None:
    """Raise AtlasError for a limit that is neither a whole number nor a share."""
    if limit is not None and (limit <= 0 or (limit > 1 and limit != int(limit))):
        raise AtlasError(
            f"a limit of {limit:g} is neither a number of documents nor a share of them",
            where=name,
            remedy="give a whole number, or a share below 1",
        )


def data_of(loaded: dict[str, Any], requests: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Of each task the data set, its revisions on the hub where they are known, and a digest of all documents."""
    about = {}
    for name, task in loaded["tasks"].items():
        documents = requests[requests.task == name].drop_duplicates("doc_id").document
        dataset = task.dataset.values() if isinstance(task.dataset, dict) else []
        sources = [source for split in dataset for source in getattr(split.info, "download_checksums", None) or {}]
        about[name] = {
            "dataset": task.config.dataset_path,
            "part": task.config.dataset_name,
            "revisions": sorted({revision for source in sources for revision in REVISION.findall(source)}),
            "documents": hashlib.sha256("".join(documents).encode()).hexdigest(),
        }
    return about


def fill_requests(loaded: dict[str, Any], requests: pd.DataFrame, lm: Any, *, limit: float | None) -> None:
    """Give tasks and the harness model the requests of a table, so that nothing is built or tokenized again.

    Raises AtlasError where a task's documents, with their answers, are not those that the requests were made of.
    """
    from lm_eval.api.instance import Instance
    from lm_eval.evaluator_utils import get_sample_size

    for name, task in loaded["tasks"].items():
        documents = dict(task.doc_iterator(rank=0, limit=get_sample_size(task, limit), world_size=1))
        own = requests[requests.task == name]
        _check_documents(name, task, documents, own)
        task._instances = [
            Instance(
                request_type=row.type,
                doc=documents[row.doc_id],
                arguments=tuple(json.loads(row.arguments)),
                idx=row.idx,
                metadata=(name, row.doc_id, row.repeats),
            )
            for row in own.itertuples()
        ]
        task.build_all_requests = _already_built
    lm.remember(requests)


def _check_documents(name: str, task: Any, documents: dict[int, Any], requests: pd.DataFrame) -> None:
    built = dict(zip(requests.doc_id, requests.document, strict=True))
    now = {number: _digest(task, document) for number, document in documents.items()}
    if now != built:
        changed = sum(now.get(number) != built.get(number) for number in now.keys() | built.keys())
        raise AtlasError(
            f"the data of task {name} has changed since its requests were made: {changed} documents differ",
            where=name,
            remedy="make them again, and with them all scores of the task: snakemake --forcerun task_requests",
        )


def _digest(task: Any, document: Any) -> str:
    """Of a document and its answer, so that a score cannot be of another question or against another answer."""
    content = json.dumps([document, task.doc_to_target(document)], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _already_built(**_: object) -> None:
    """Stands in for a task's own build_all_requests, which evaluate() calls each time."""


def _check_kind(task: Any, name: str) -> None:
    if getattr(task, "MULTIMODAL", False):
        raise AtlasError("the task shows images or sounds", where=name, remedy="take a task of texts alone")
    if (repeats := task.get_config("repeats") or 1) > _MOST_REPEATS:
        raise AtlasError(
            f"the task repeats each request {repeats} times, more than {_MOST_REPEATS}",
            where=name,
            remedy="set `repeats` of its definition to less",
        )
    if getattr(task, "UNSAFE_CODE", False):
        raise AtlasError(
            "the task runs code that the model writes, which this workflow does not allow",
            where=name,
            remedy="run it by hand: lm-eval run --confirm_run_unsafe_code",
        )


def _row(task: str, instance: Any, lm: Any) -> tuple:
    context, continuation = instance.args[0], []
    if instance.request_type == "loglikelihood" and context:
        ids, continuation = lm._encode_pair(*instance.args)
    elif instance.request_type == "loglikelihood":
        ids, continuation = [], lm.tok_encode(instance.args[1], add_special_tokens=False)
    else:
        ids = lm.tok_encode(context)
    arguments = json.dumps(list(instance.args), sort_keys=True, ensure_ascii=False)
    kind = instance.request_type
    return task, instance.doc_id, instance.idx, instance.repeats, kind, arguments, list(ids), list(continuation)


def _check_length(requests: pd.DataFrame, context: int, truncate: bool, name: str) -> None:
    lengths = pd.Series([_tokens_needed(row) for row in requests.itertuples()], dtype="int64")
    long = lengths > context
    if long.any() and not truncate:
        raise NotApplicable(
            f"{int(long.sum())} of {len(requests)} requests of task {name} are longer than the model's context: up to "
            f"{int(lengths.max())} tokens, of {context}",
            where=name,
            remedy="lower `fewshot`, or set `truncate: true` for this task to have them cut from the left",
        )


def _tokens_needed(request: Any) -> int:
    """Positions of the model's context that a request takes."""
    match request.type:
        case "loglikelihood":  # the last token is predicted, not read
            return len(request.context_ids) + len(request.continuation_ids) - 1
        case "generate_until":
            from lm_eval.models.utils import normalize_gen_kwargs

            settings = json.loads(request.arguments)[1]
            return len(request.context_ids) + int(normalize_gen_kwargs(settings)["max_gen_toks"])
        case _:  # cut into windows
            return 0
