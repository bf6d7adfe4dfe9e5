"""Results of a made-up model of any size, as its steps would leave them, and its page."""

from pathlib import Path

import numpy as np
import pandas as pd

from weight_atlas.artifacts import write_json, write_table
from weight_atlas.pages.assets import write_assets
from weight_atlas.pages.html.sources import Artifacts
from weight_atlas.pages.pages import Places, write_page

ROOT = Path(__file__).parents[2]
ASSETS = ROOT / "src/weight_atlas/pages/assets"
ANALYSES = (
    "weight_statistics",
    "effective_rank",
    "attention_head",
    "super_weights",
    "neuron_effects",
    "expert_routing",
)
HOSTILE = (
    "</script><script>document.title='owned'</script>",
    "<img src=x onerror=document.title='owned'>",
    "\u202eright to left",
    "control \u0007\u001b[31m",
    "\"'&<>`${1}{{7*7}}",
    "]]>-->",
    "\u2028\u2029",
)


def inventory(layers: int, experts: int = 0, suffix: str = "") -> pd.DataFrame:
    """The tensors of a Llama-like model; suffix: added to their names."""
    rows: list[dict] = []

    def add(name, role, layer=None, component="", shape=(16, 16), expert=None, of_role=""):
        rows.append(
            {"id": name + suffix, "tensor": name + suffix, "role": role, "of_role": of_role, "component": component,
             "stack": "decoder", "layer": layer, "expert": expert, "rows": shape[0],
             "cols": shape[1] if len(shape) > 1 else None}
        )  # fmt: skip

    add("embed", "W_E", shape=(64, 16))
    for layer in range(layers):
        add(f"layers.{layer}.norm1", "norm", layer, "pre_attention", (16,))
        for role in ("W_Q", "W_K", "W_V", "W_O"):
            add(f"layers.{layer}.{role}", role, layer)
        add(f"layers.{layer}.W_Q.bias", "bias", layer, shape=(16,), of_role="W_Q")
        add(f"layers.{layer}.norm2", "norm", layer, "pre_mlp", (16,))
        for expert in range(experts) or [None]:
            for role in ("W_gate", "W_up", "W_down"):
                name = f"layers.{layer}.{role}" if expert is None else f"layers.{layer}.experts.{expert}.{role}"
                add(name, role, layer, expert=expert)
    add("norm", "norm", component="final", shape=(16,))
    add("head", "W_U", shape=(64, 16))
    whole = dict.fromkeys(("layer", "expert", "rows", "cols"), "Int64")
    return pd.DataFrame(rows).astype(whole)


def write_results(
    results: Path, model: str, layers: int = 3, heads: int = 4, experts: int = 0, texts: tuple[str, ...] = ("a", "b")
) -> dict[str, Path]:
    """Write tables of every kind that the page reads; the paths of what cards are drawn from, by their names.

    texts: tokens, and the ends of the names of tensors.
    """
    numbers = np.random.default_rng(0)
    tensors = inventory(layers, experts, texts[0] if len(texts) > 2 else "")
    keys = tensors[["id", "role", "stack", "layer", "expert"]]
    count = len(tensors)
    write_table(results / f"tensor_inventory/{model}.parquet", tensors)
    matrices = tensors[tensors["cols"].notna()]
    write_table(
        results / f"weight_statistics/{model}.csv",
        keys.assign(
            kurtosis=numbers.normal(size=count),
            std=numbers.uniform(0.5, 2, count),
            dynamic_range=np.where(np.arange(count) == 9, 400.0, numbers.uniform(4, 6, count)),
            dynamic_range_null=5.0,
            n=16_777_217,
        ),
    )
    of_matrices = matrices[["id", "role", "stack", "layer", "expert"]]
    write_table(
        results / f"effective_rank/{model}.csv",
        of_matrices.assign(erank=12.5, erank_relative=numbers.uniform(0.2, 1, len(matrices)), condition=np.inf),
    )
    head_keys = [
        {"stack": "decoder", "component": "", "layer": layer, "head": head, "circuit": circuit}
        for layer in range(layers)
        for head in range(heads)
        for circuit in ("QK", "OV")
    ]
    kernels = pd.DataFrame(head_keys)
    kernels = kernels.assign(erank=numbers.uniform(2, 8, len(kernels)), erank_null=6.0)
    write_table(results / f"attention_head/{model}.csv", kernels)
    drawn = kernels.assign(
        singular_values=[np.sort(numbers.uniform(0.1, 2, 4))[::-1] for _ in range(len(kernels))],
        eigenvalues_real=[numbers.normal(size=4) for _ in range(len(kernels))],
        eigenvalues_imag=[numbers.normal(size=4) for _ in range(len(kernels))],
    )
    write_table(results / f"attention_kernel/{model}.parquet", drawn)
    super_weight = tensors[tensors["role"] == "W_down"].iloc[0]
    write_table(
        results / f"super_weights/{model}.csv",
        pd.DataFrame(
            {
                "layer": [0],
                "row": [3],
                "column": [5],
                "tensor": super_weight.tensor,
                "original_value": [7.5],
                "token": texts[-1],
            }
        ),
    )
    write_table(
        results / f"neuron_effects/{model}/neurons.csv",
        pd.DataFrame({"layer": range(len(texts)), "neuron": range(len(texts)), "up": texts}),
    )
    _write_drawn(results, model, tensors[tensors["expert"].isna()], numbers)
    write_json(
        results / f"checkpoints/{model}.json",
        {"source": f"hf://{texts[-1]}", "revision": None, "files": [{"name": texts[0], "size": 10, "sha256": "ab"}]},
    )
    names = ("tensor_inventory", "value_histogram", "weight_profile", "singular_values", "attention_kernel")
    paths = {name: results / f"{name}/{model}.parquet" for name in names}
    return {"checkpoint": results / f"checkpoints/{model}.json", **paths}


def _write_drawn(results: Path, model: str, tensors: pd.DataFrame, numbers: np.random.Generator) -> None:
    histograms, profiles, spectra = [], [], []
    for each in tensors.to_dict("records"):
        values = np.sort(numbers.normal(size=64))
        histograms.append(
            {"id": each["id"], "n": 64, "mean": values.mean(), "std": values.std(), "min": values[0], "max": values[-1],
             "values": values, "counts": np.ones(64, dtype=np.int64)}
        )  # fmt: skip
        if pd.isna(each["cols"]):
            continue
        cells = numbers.normal(size=each["rows"] * each["cols"]).astype(np.float32)
        profiles.append(
            {"id": each["id"], "rows": each["rows"], "cols": each["cols"], "height": 1, "width": 1, "cell_mean": cells,
             "cell_absmax": np.abs(cells)}
        )  # fmt: skip
        sigma = np.sort(np.abs(numbers.normal(size=16)))[::-1]
        spectra.append(
            {"id": each["id"], "rows": each["rows"], "cols": each["cols"], "frobenius": float(np.linalg.norm(sigma)),
             "sigma": sigma}
        )  # fmt: skip
    write_table(results / f"value_histogram/{model}.parquet", pd.DataFrame(histograms))
    write_table(results / f"weight_profile/{model}.parquet", pd.DataFrame(profiles))
    write_table(results / f"singular_values/{model}.parquet", pd.DataFrame(spectra))


def findings_of(tensors: pd.DataFrame, text: str) -> list[dict]:
    """Three findings: a rule's, about one tensor, one for information, and one that an analysis states."""
    place = tensors["id"].iloc[9]
    common = {"count": 1, "looked_at": len(tensors), "effect": None, "remedy": text}
    return [
        {**common, "id": "made_up", "grade": "notable", "analysis": "weight_statistics", "place": place,
         "places": [place], "value": 400.0, "null_value": 5.0, "text": f"one weight stands out: {text}",
         "evidence": {"file": "weight_statistics/m.csv", "rows": [9]}},
        {**common, "id": "super_weights.1", "grade": "critical", "analysis": "super_weights",
         "place": "Layer 0 [3, 5]", "places": ["Layer 0 [3, 5]"], "value": 3.0, "null_value": 0.1, "text": text,
         "evidence": {"file": "super_weights/m.json", "rows": [0]}},
        {**common, "id": "other", "grade": "info", "analysis": "super_weights", "place": "", "places": [],
         "value": None, "null_value": None, "text": f"worth a look: {text}", "evidence": {"file": "x.csv", "rows": []}},
    ]  # fmt: skip


def write_atlas(results: Path, model: str = "m", **size) -> Path:
    """Write the results of a made-up model and its page with all that it needs; the page."""
    paths = write_results(results, model, **size)
    tensors = pd.read_parquet(paths["tensor_inventory"])
    texts = size.get("texts", ("a", "b"))
    captions = []
    for name in ANALYSES:
        captions.append(results.parent / f"{name}.rst")
        captions[-1].write_text("How to read ``it`` with *care*.\n")
    own = [path for name in ANALYSES for path in sorted((results / name).glob(f"{model}*"))]
    products = [file for path in own for file in (sorted(path.glob("*")) if path.is_dir() else [path])]
    page = results / f"atlas/models/{model}.html"
    places = Places(results / f"atlas/{model}.md", page, page.with_suffix(""), results / f"atlas/{model}.json")
    write_page(places, model, captions, products, findings_of(tensors, texts[1]), Artifacts(**paths))
    return page


def write_shared(results: Path) -> None:
    """Write what pages share."""
    write_assets(
        sorted(path for path in ASSETS.iterdir() if path.suffix in (".js", ".css", ".svg")), results / "atlas/assets"
    )
