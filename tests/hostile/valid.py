"""Tiny files that every reader takes, as bytes by their names, from which bad ones are made."""

import io
from collections.abc import Callable
from functools import cache

import numpy as np
from hostile.valid_models import (
    WORDS,
    Files,
    adapter,
    as_json,
    as_pytorch,
    as_safetensors,
    compressed_model,
    fp8_model,
    gguf_model,
    gptq_model,
    live_model,
    nf4_model,
    pytorch_model,
    safetensors_model,
    sentencepiece,
    sharded_model,
    tokenizer,
)


def text() -> Files:
    return {"c.txt": " ".join(WORDS).encode()}


ROWS = [{"text": " ".join(WORDS), "language": "en", "n": 1}, {"text": "un chat", "language": "fr", "n": 2}]


def json_lines() -> Files:
    return {"c.jsonl": b"".join(as_json(row) + b"\n" for row in ROWS)}


def csv_rows() -> Files:
    return {
        "c.csv": b"text,language,n\n" + b"".join(f'"{r["text"]}",{r["language"]},{r["n"]}\n'.encode() for r in ROWS)
    }


def parquet_rows() -> Files:
    import pandas as pd

    stream = io.BytesIO()
    pd.DataFrame(ROWS).to_parquet(stream, index=False)
    return {"c.parquet": stream.getvalue()}


def weights_npy() -> Files:
    stream = io.BytesIO()
    np.save(stream, np.linspace(0, 1, 16), allow_pickle=False)
    return {"w.npy": stream.getvalue()}


def weights_safetensors() -> Files:
    import torch

    tensors = {"token_weights": torch.linspace(0, 1, 32).reshape(16, 2), "mask": torch.ones(16, dtype=torch.uint8)}
    return {"w.safetensors": as_safetensors(tensors)}


def weights_sparse() -> Files:
    import torch

    tensors = {
        "rows": torch.arange(4),
        "columns": torch.tensor([0, 1, 0, 1]),
        "values": torch.rand(4),
        "shape": torch.tensor([16, 2]),
    }
    return {"w.safetensors": as_safetensors(tensors)}


def weights_bytes() -> Files:
    import torch

    tensors = {
        "token_weights": torch.arange(32, dtype=torch.uint8).reshape(16, 2),
        "dtype": torch.tensor([26]),
        "scale": torch.tensor([0.5]),
    }
    return {"w.safetensors": as_safetensors(tensors)}


def weights_pytorch() -> Files:
    import torch

    return {"w.pt": as_pytorch({"model_state_dict": {"token_weights": torch.rand(16)}, "step": 3})}


def column_names() -> Files:
    return {**weights_safetensors(), "names.json": as_json({"en": 0, "fr": 1})}


CONFIGURATION = b"""\
models:
  demo: {source: "bundled:demo", analyses: [effective_rank]}
  other: {source: ./folder, family: llama, super_weights: {spike_threshold: 3.5}}
corpora:
  mine: {source: [a.txt, b.jsonl], column: text, keep: {language: [de]}}
effective_rank: {phases: 4}
tasks:
  mine: {limit: 10}
ablations:
  super_weights: {zero: {}}
pathvars: {results: out}
"""


def configuration() -> Files:
    return {"c.yaml": CONFIGURATION}


def thresholds() -> Files:
    return {
        "t.yaml": b"ignore: [zero_matrix]\ngrades: {ill_conditioned: info}\nlimits: {effective_rank.r: {least: 2}}\n"
    }


def task() -> Files:
    """A task of somebody else for lm-evaluation-harness, and its data."""
    rows = [{"q": f"Number {n} is", "a": "a number", "b": "not", "label": n % 2} for n in range(3)]
    definition = b"""\
task: mine
dataset_path: json
dataset_kwargs: {data_files: {test: rows.jsonl}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{q}}"
doc_to_choice: "{{[a, b]}}"
doc_to_target: label
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
"""
    return {"mine.yaml": definition, "rows.jsonl": b"".join(as_json(row) + b"\n" for row in rows)}


def models_table() -> Files:
    """Models in rows, and a configuration that names the table."""
    rows = "name\tsource\tsuper_weights.spike_threshold\tanalyses\ndemo\tbundled:demo\t3.5\teffective_rank, sparsity\n"
    return {"models.tsv": rows.encode()}


VALID: dict[str, Callable[[], Files]] = {
    made.__name__: cache(made)
    for made in (
        safetensors_model,
        sharded_model,
        pytorch_model,
        gguf_model,
        fp8_model,
        gptq_model,
        nf4_model,
        compressed_model,
        adapter,
        tokenizer,
        sentencepiece,
        live_model,
        text,
        json_lines,
        csv_rows,
        parquet_rows,
        weights_npy,
        weights_safetensors,
        weights_sparse,
        weights_bytes,
        weights_pytorch,
        column_names,
        configuration,
        thresholds,
        task,
        models_table,
    )
}
