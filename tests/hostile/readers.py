"""What reads each kind of input, to the last of its values, as the workflow's steps do."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory


def read_model(folder: Path) -> None:
    """Index, inventory, description, and every tensor whole and by its pieces."""
    from weight_atlas.checkpoint.checkpoint import Checkpoint
    from weight_atlas.families.architecture import Architecture
    from weight_atlas.families.architecture_summary import configuration, parameter_table
    from weight_atlas.families.inventory import inventory
    from weight_atlas.families.pieces import load_piece, matrices

    checkpoint = Checkpoint.from_folder(folder)
    for name, entry in checkpoint.entries.items():
        if not entry.note:
            checkpoint.read(name)
    table = inventory(checkpoint)
    for row in matrices(table).itertuples():
        load_piece(checkpoint, row)
    configuration(Architecture.of(checkpoint), table)
    parameter_table(table)


def run_model(folder: Path) -> None:
    """Load the model and let it read three tokens."""
    import torch

    from weight_atlas.checkpoint.checkpoint import Checkpoint
    from weight_atlas.live.anatomy import anatomy
    from weight_atlas.live.load import load_model

    model = load_model(Checkpoint.from_folder(folder), dtype="float32", trust_remote_code=False)
    anatomy(model, None)
    with torch.inference_mode():
        model(torch.tensor([[1, 2, 3]]))


def count_tokens(folder: Path) -> None:
    """The tokenizer of a folder: its vocabulary, the texts of its tokens, and counts of a text."""
    from weight_atlas.embeddings.token_texts import token_texts
    from weight_atlas.tokens.batches import Documents
    from weight_atlas.tokens.corpus_counts import count_corpus
    from weight_atlas.tokens.model_vocabulary import tokenizer_vocabulary
    from weight_atlas.tokens.tokenizer import stored_vocabulary

    place = folder / "tokenizer.model"
    place = place if place.is_file() else folder
    vocabulary = tokenizer_vocabulary(place, trust_remote_code=False)
    count_corpus(vocabulary, [Documents(["the cat sat on a mat" * 40] * 3, [""] * 3)])
    stored_vocabulary(folder)
    token_texts(folder, range(4))


def read_texts(folder: Path) -> None:
    from weight_atlas.tokens.corpora import read_corpus

    (path,) = folder.iterdir()
    read_corpus(str(path), **({} if path.suffix == ".txt" else {"group_column": "language"}))


def read_weights(folder: Path) -> None:
    from weight_atlas.settings.token_weights import Table
    from weight_atlas.token_weights.reading import read_token_weights

    (path,) = folder.glob("w.*")
    names = {"columns": str(folder / "names.json")} if (folder / "names.json").exists() else {}
    read_token_weights(path, Table(reduce="norm", **names), top=3)


def read_configuration(folder: Path) -> None:
    """As a file of the workflow, and as the project of the command."""
    import yaml

    from weight_atlas.command.estimate import _complete, _read
    from weight_atlas.command.project import FILE, Project

    path, values = _read(folder / "c.yaml")
    _complete(values, "quick", path)
    (folder / FILE).write_bytes(path.read_bytes())
    project = Project(folder)
    project.configured()
    yaml.safe_dump(values)


def read_thresholds(folder: Path) -> None:
    from weight_atlas.command.thresholds import read_thresholds as read

    read(folder / "t.yaml")


def read_models(folder: Path) -> None:
    """A table of models, as the workflow completes a configuration that names it."""
    from weight_atlas.command.estimate import _complete

    _complete({"models_table": str(folder / "models.tsv")}, "quick", folder / "c.yaml")


class _Words:
    """Encodes by words, in the place of a model."""

    max_length = 2048

    def tok_encode(self, text: str, **_: object) -> list[int]:
        return list(range(len(str(text).split())))

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        return self.tok_encode(context), self.tok_encode(continuation)


def build_task(folder: Path) -> None:
    """A task's definition and data, as the plan and the step that builds its requests read them."""
    import datasets

    from weight_atlas.ablations.requests import build_requests, chance_levels, data_of
    from weight_atlas.ablations.task_files import task_state
    from weight_atlas.ablations.tasks import load_tasks
    from weight_atlas.errors import located

    task_state(str(folder), str(folder))
    with TemporaryDirectory() as cache:
        datasets.config.HF_DATASETS_CACHE = Path(cache)
        loaded = load_tasks("mine", folders=[folder], mirror=folder)
        with located(folder):  # a task that is loaded is known by its name alone
            table = build_requests(loaded, _Words(), limit=None, truncate=True, name="mine")
        chance_levels(loaded, table)
        data_of(loaded, table)


def compare_files(folder: Path) -> None:
    """The files beside the weights, against an empty folder."""
    from weight_atlas.checkpoint.checkpoint import Checkpoint
    from weight_atlas.comparison.files import file_differences

    config = Checkpoint.from_folder(folder).config
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    file_differences(folder, empty, (config, {}))


READERS: dict[str, tuple[Callable[[Path], None], ...]] = {
    **dict.fromkeys(
        (
            "safetensors_model",
            "sharded_model",
            "pytorch_model",
            "gguf_model",
            "fp8_model",
            "gptq_model",
            "nf4_model",
            "compressed_model",
            "adapter",
        ),
        (read_model,),
    ),
    "live_model": (run_model, compare_files),
    **dict.fromkeys(("tokenizer", "sentencepiece"), (count_tokens,)),
    **dict.fromkeys(("text", "json_lines", "csv_rows", "parquet_rows"), (read_texts,)),
    **dict.fromkeys(
        ("weights_npy", "weights_safetensors", "weights_sparse", "weights_bytes", "weights_pytorch", "column_names"),
        (read_weights,),
    ),
    "configuration": (read_configuration,),
    "thresholds": (read_thresholds,),
    "task": (build_task,),
    "models_table": (read_models,),
}
