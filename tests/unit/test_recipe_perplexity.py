"""A recipe on a running model: against checkpoints whose tensors were rounded and that transformers loads."""

from concurrent.futures import ThreadPoolExecutor

import gguf
import numpy as np
import pandas as pd
import pytest
import torch
import transformers
from gguf import quants
from live_models import layouts, own_text, tiny, word_tokenizer
from safetensors.torch import load_file, save_file

from weight_atlas.ablations.recipe_perplexity import held_out_windows, recipe_perplexity, table_of
from weight_atlas.ablations.recipe_variants import Sized, recipe_variants, single_types
from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.errors import AtlasError, NotApplicable
from weight_atlas.families.inventory import inventory
from weight_atlas.families.pieces import matrices
from weight_atlas.figures.recipe_perplexity import recipe_against_single_types
from weight_atlas.interventions.intervention import UNCHANGED, Intervention, Refused, applied
from weight_atlas.interventions.rounded_matrices import MatrixPlace, RoundedAs, part_at
from weight_atlas.live.anatomy import anatomy
from weight_atlas.live.windows import Windows
from weight_atlas.quantization.quantizers import Scheme, quantized
from weight_atlas.quantization.recipes import ggml
from weight_atlas.quantization.recipes.gguf_names import names_for
from weight_atlas.quantization.recipes.rounded import rounded
from weight_atlas.quantization.recipes.types import SIXTEEN, TYPES
from weight_atlas.quantization.recipes.units import units_of
from weight_atlas.settings.quantization import RecipePerplexity

LLAMA_CPP = ("q4_0", "q8_0", "q5_1", "f16")


def stored(layout, folder, dtype=torch.float32, **changes):
    """A tiny model as transformers saves it, running, with its inventory."""
    model = tiny(layout, sharp=True, num_hidden_layers=2, n_layer=2, **changes).to(dtype)
    model.save_pretrained(folder)
    return model.float(), inventory(Checkpoint.from_folder(folder))


def units_for(tool, model, table):
    return units_of(matrices(table), tool, names_for(tool, model.config.to_dict(), table))


def made(tool, units, types, sizes=(100.0, 90.0, 120.0), singles=("q4_0", "q8_0"), instead=()):
    """What quantization_recipe writes of a recipe: the table, and the summary with two single types."""
    table = pd.DataFrame({"unit": [unit.name for unit in units], "type": types})
    uniforms = [
        {"type": name, "bytes": size, "noise": 1.0, "instead": dict(instead)}
        for name, size in zip(singles, sizes[1:], strict=True)
    ]
    return table, {"format": tool, "bytes": sizes[0], "uniforms": uniforms}


def by_hand(matrix, kind):
    """A matrix (out, in) as a type gives it back, by gguf itself and by the quantizers in torch."""
    if kind == "f16":
        return matrix.half().float()
    if kind in ("q4_0", "q8_0", "q5_1"):
        number = gguf.GGMLQuantizationType[kind.upper()]
        return torch.from_numpy(quants.dequantize(quants.quantize(matrix.contiguous().numpy(), number), number))
    scheme = next((each.scheme for each in TYPES["llm-compressor"] if each.name == kind), "")
    return quantized(matrix, Scheme.named(scheme)) if scheme else matrix.half().float()


def random_text():
    """Windows of random tokens, whose losses are large."""
    ids = torch.randint(5, 300, (4, 16), generator=torch.Generator().manual_seed(3))
    return Windows(ids, torch.arange(16).expand(4, 16) >= 4)


def perplexity_of(folder, windows):
    """Nats per token in float64, by transformers alone."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        log_p = model(input_ids=windows.ids).logits.double().log_softmax(-1)
    nll = -log_p[:, :-1].gather(2, windows.ids[:, 1:, None]).squeeze(2)
    return float(nll[windows.scored[:, 1:]].mean())


# A layout, the tool, and which tensors on disk have rows along the output (GPT-2's Conv1D has them along the input).
CASES = {
    "llama": ("llama", "llama.cpp", {}),
    "tied": ("qwen2", "llama.cpp", {}),
    "gpt2": ("gpt2", "llama.cpp", {}),
    "mixtral": ("mixtral", "llama.cpp", {}),
    "experts of a layer together": ("mixtral", "llm-compressor", {}),
    "fused": ("phi3", "llama.cpp", {}),
    "in 16 bits": ("llama", "llm-compressor", {"dtype": torch.bfloat16}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_recipe_is_the_checkpoint_with_its_tensors_rounded(case, tmp_path):
    layout, tool, more = CASES[case]
    model, table = stored(layout, tmp_path / "plain", **more)
    units, live = units_for(tool, model, table), anatomy(model)
    kinds = LLAMA_CPP if tool == "llama.cpp" else ("NVFP4A16", "W8A16", SIXTEEN)
    types = [kinds[number % len(kinds)] for number in range(len(units))]
    singles = ("q4_0", "q8_0") if tool == "llama.cpp" else ("NVFP4A16", "W8A16")
    recipe, summary = made(tool, units, types, singles=singles, instead={units[1].name: singles[1]})
    windows = random_text()
    variants = recipe_variants(units, recipe, summary, table, {"decoder"}, larger=True)
    found = recipe_perplexity(live, windows, variants, 100, batch_size=4).set_index("variant")

    tensors = load_file(tmp_path / "plain/model.safetensors")
    wanted = {"unchanged": {}, "recipe": dict(zip(units, types, strict=True))}
    wanted |= {name: dict.fromkeys(units, kind) for name, kind in zip(("uniform", "larger"), singles, strict=True)}
    wanted["uniform"][units[1]] = singles[1]
    names = dict(zip(table["id"], table["tensor"], strict=True))
    for variant, chosen in wanted.items():
        rounded = dict(tensors)
        for unit, kind in chosen.items():
            for name in {names[each] for each in unit.ids}:
                w, conv = tensors[name], layout == "gpt2" and ".h." in f".{name}"
                if kind == SIXTEEN and w.dtype == torch.bfloat16:
                    continue
                back = by_hand((w.T if conv else w).float(), kind)
                rounded[name] = back.T.contiguous() if conv else back
        folder = tmp_path / variant
        model.config.save_pretrained(folder)
        save_file({name: w.float() for name, w in rounded.items()}, folder / "model.safetensors", {"format": "pt"})
        assert found.loc[variant, "nll"] == pytest.approx(perplexity_of(folder, windows), rel=1e-5), variant
    assert len({*found["nll"]}) == 4
    assert (found["perplexity"] == np.exp(found["nll"])).all()


def place_of(row):
    layer, expert = (None if pd.isna(each) else int(each) for each in (row.layer, row.expert))
    return MatrixPlace(row.role, row.component, row.stack, layer, expert, (int(row.rows), int(row.cols)))


@pytest.mark.parametrize("layout", layouts())
def test_every_matrix_of_an_inventory_is_found_and_comes_back_bit_for_bit(layout, tmp_path):
    model, table = stored(layout, tmp_path, dtype=torch.bfloat16)
    model = model.bfloat16()
    live, own = anatomy(model), matrices(table)
    places = [place_of(row) for row in own.itertuples(index=False)]
    found = [part_at(live, place) for place in places]
    assert len({(part.name, part.selection) for part in found}) == len(own)
    with torch.no_grad():
        weight = found[-1].parameter
        weight.view(-1)[:3] = torch.tensor([float("nan"), -0.0, 1e-40]).to(weight.dtype)
    before = {name: w.clone().view(torch.int16) for name, w in model.state_dict().items() if w.is_floating_point()}
    nf4 = next(kind for kind in TYPES["bitsandbytes"] if kind.name == "nf4")

    def differing():
        after = model.state_dict()
        return {name for name, w in before.items() if not torch.equal(after[name].view(torch.int16), w)}

    everything = Intervention("recipe", RoundedAs(tuple((place, nf4) for place in places)), name="all")
    with pytest.raises(ZeroDivisionError), applied(live, everything):
        assert {part.name for part in found} <= differing()
        raise ZeroDivisionError
    assert not differing()


def test_a_recipe_of_sixteen_bits_costs_a_model_in_sixteen_bits_nothing(tmp_path):
    model, table = stored("llama", tmp_path, dtype=torch.bfloat16)
    units = units_for("torchao", model, table)
    recipe, summary = made("torchao", units, SIXTEEN, singles=("int8", SIXTEEN))
    variants = recipe_variants(units, recipe, summary, table, {"decoder"}, larger=True)
    live = anatomy(model)
    found = recipe_perplexity(live, own_text(live, windows=3, length=8), variants, 100, batch_size=2)
    found = found.set_index("variant")
    exact = ["delta_nll", "delta_nll_low", "delta_nll_high", "to_recipe", "weights"]
    assert (found.loc[["unchanged", "recipe", "larger"], exact] == 0).all(axis=None)
    assert found.loc["uniform", "delta_nll"] != 0
    assert found.loc["uniform", "weights"] == matrices(table)["parameters"].sum() - 2 * 300 * 64 + 300 * 64


def test_what_does_not_run_and_what_sixteen_bits_hold_is_left_alone(tmp_path):
    model, table = stored("llama", tmp_path, dtype=torch.bfloat16)
    units = units_for("torchao", model, table)

    def kinds(table, types, stacks=("decoder",)):
        recipe, summary = made("torchao", units, types)
        return recipe_variants(units, recipe, {**summary, "uniforms": []}, table, stacks, larger=True)[1]

    assert len(kinds(table, "int8").intervention.change.kinds) == len(units)
    assert kinds(table, "int8", ("encoder",)).intervention.change.kinds == ()
    assert kinds(table, SIXTEEN).intervention.change.kinds == ()
    # GGUF's packed types are unfolded to float32.
    for wider in ("F32", "Q8_0"):
        assert len(kinds(table.assign(dtype=wider), SIXTEEN).intervention.change.kinds) == len(units)


@pytest.mark.parametrize(("tool", "kind"), [(tool, kind) for tool, kinds in TYPES.items() for kind in kinds])
def test_a_matrix_of_several_chunks_is_rounded_as_in_one(tool, kind):
    """More weights than are rounded at once, in bfloat16 and not contiguous; against ggml and the quantizers."""
    w = torch.randn(256, 700, generator=torch.Generator().manual_seed(1)).bfloat16().T
    w[3, 5] = 40
    with ThreadPoolExecutor(2) as pool:
        found = rounded(w, kind, pool)
    plain = w.float().contiguous()
    if kind.scheme:
        expected = quantized(plain, Scheme.named(kind.scheme)).numpy()
    else:
        expected = plain.half().float().numpy() if kind.block == 1 else ggml.rounded(plain.numpy(), kind.name)
    assert np.array_equal(found, expected)


def test_threads_change_nothing(tmp_path):
    model, table = stored("gpt2", tmp_path)
    live, own = anatomy(model), matrices(table)
    kinds = tuple((place_of(row), TYPES["llama.cpp"][5]) for row in own.itertuples(index=False))
    states = []
    for threads in (1, 3):
        with applied(live, Intervention("recipe", RoundedAs(kinds, threads=threads), name="all")):
            states.append({name: w.clone() for name, w in model.state_dict().items()})
    assert all(torch.equal(w, states[1][name]) for name, w in states[0].items())
    assert RoundedAs(kinds, threads=1) == RoundedAs(kinds, threads=3)


def test_what_the_running_model_has_not_is_refused(tmp_path):
    live = anatomy(tiny("qwen2"))
    up = MatrixPlace("W_up", "", "decoder", 0, None, (96, 64))
    int8, whole = TYPES["torchao"][2:]
    assert str(up._replace(expert=3)) == "W_up of layer 0, expert 3"
    for wrong, why in (
        (up._replace(layer=9), "has no W_up of layer 9"),
        (up._replace(shape=(64, 96)), "another shape"),
        (up._replace(stack="encoder"), "has no"),
    ):
        with pytest.raises(NotApplicable, match=why):
            part_at(live, wrong)
    both = Intervention("recipe", RoundedAs(((up, int8), (up, whole))), name="both")
    with pytest.raises(Refused, match="gives int8 and 16 bit are one"), applied(live, both):
        pass
    model, table = stored("llama", tmp_path)
    units = units_for("torchao", model, table)
    recipe, summary = made("torchao", units, "int8")
    with pytest.raises(AtlasError, match="other units"):
        recipe_variants(units[1:], recipe, summary, table, {"decoder"}, larger=True)


def test_single_types_are_of_the_recipes_size_or_the_next_one():
    def single(name, size, noise):
        return {"type": name, "bytes": size, "noise": noise, "instead": {}}

    four = single("q4_0", 4.0, 2.0), single("q4_K", 4.0, 1.0), single("q8_0", 8.0, 0.1), single("f16", 16.0, 0.0)
    summary = {"bytes": 6.0, "uniforms": [*four]}
    names = {name: each["type"] for name, each in single_types(summary, larger=True).items()}
    assert names == {"uniform": "q4_K", "larger": "q8_0"}
    assert list(single_types(summary, larger=False)) == ["uniform"]
    assert single_types({**summary, "bytes": 8 - 1e-10}, larger=True)["uniform"]["type"] == "q8_0"
    assert list(single_types({**summary, "bytes": 2.0}, larger=True)) == ["larger"]
    assert list(single_types({**summary, "bytes": 99.0}, larger=True)) == ["uniform"]


def scores(**nll):
    """Window scores of variants: two windows of 10 and 20 tokens."""
    parts = [
        pd.DataFrame({"variant": name, "window": [0, 1], "document": [0, 1], "tokens": [10, 20], "nll": values})
        for name, values in nll.items()
    ]
    return pd.concat(parts, ignore_index=True)


SIZED = [
    Sized(UNCHANGED, "", 400.0),
    Sized(Intervention("recipe", RoundedAs((), 90), name="recipe"), "", 100.0),
    Sized(Intervention("uniform", RoundedAs((), 90), name="uniform"), "q4_0", 90.0),
]


def test_the_table_pairs_windows_and_stays_readable_where_a_model_breaks():
    table = table_of(scores(unchanged=[10.0, 20.0], recipe=[11.0, 24.0], uniform=[12.0, 30.0]), SIZED, 200)
    table = table.set_index("variant")
    assert table["bits"].tolist() == [16, 4, 3.6]
    assert table["nll"].tolist() == pytest.approx([1, 35 / 30, 1.4])
    assert table["delta_nll"].tolist() == pytest.approx([0, 5 / 30, 0.4])
    assert table["to_recipe"].tolist() == pytest.approx([-5 / 30, 0, 7 / 30])
    # Student's t with one degree of freedom, weights 1/3 and 2/3, differences 0.1 and 0.2 per token.
    error = np.sqrt(2 * ((1 / 3 * (0.1 - 5 / 30)) ** 2 + (2 / 3 * (0.2 - 5 / 30)) ** 2))
    assert table.loc["recipe", "delta_nll_high"] == pytest.approx(5 / 30 + 12.706204736 * error)
    assert table.loc["recipe", "high"] == pytest.approx(np.exp(1 + table.loc["recipe", "delta_nll_high"]))
    broken = table_of(scores(unchanged=[10.0, 20.0], recipe=[np.inf, 20.0], uniform=[np.inf, 1.0]), SIZED, 200)
    assert np.isinf(broken["perplexity"]).tolist() == [False, True, True]
    for each in (table.reset_index(), broken, broken.iloc[:2]):
        assert len(recipe_against_single_types(each, "llama.cpp").axes) == 2


def test_the_text_lies_behind_what_the_recipe_was_fitted_to():
    tokenizer = word_tokenizer(bos=True)
    words = np.random.default_rng(0).choice(["one", "two", "three", "four", "five", "six"], 50)
    corpus = pd.DataFrame({"text": [" ".join(words)]})
    stream = tokenizer(corpus["text"][0], add_special_tokens=False)["input_ids"]
    for skip, tokens, start, count in ((20, 10, 20, 2), (20, None, 20, 6), (48, 10, 40, 2), (0, 10, 0, 2)):
        settings = RecipePerplexity(window=6, skip=skip, tokens=tokens)
        windows = held_out_windows(corpus, tokenizer, settings, limit=128, where="text")
        assert windows.ids[:, 0].tolist() == [1] * count
        assert windows.ids[:, 1:].flatten().tolist() == stream[start : start + 5 * count]
    with pytest.raises(AtlasError, match="too short"):
        held_out_windows(corpus, tokenizer, RecipePerplexity(window=6, tokens=4), limit=128, where="text")
    assert held_out_windows(corpus, tokenizer, RecipePerplexity(), limit=16, where="text").ids.shape == (3, 16)
