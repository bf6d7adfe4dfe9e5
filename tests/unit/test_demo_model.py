"""The bundled model holds what its card says: the planted super weight is there, and carries the model."""

import json
import math
import stat
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer

from weight_atlas.interventions.quantized_layers import quantized_layers
from weight_atlas.live.anatomy import Coordinate, anatomy
from weight_atlas.quantization.quantizers import Scheme
from weight_atlas.tokens.installation import read_source, source_files
from weight_atlas.tokens.prose import paragraphs
from weight_atlas.tokens.python_docs import is_held_out

DEMO = Path(__file__).resolve().parents[2] / "src/weight_atlas/data/demo"
MODEL = DEMO / "model"
LAYER, ROW, COLUMN = 1, 7, 11
CLIP = 8  # standard deviations: the default of quantization_ablation


@pytest.fixture(scope="module")
def training():
    """The modules that made the model."""
    from weight_atlas.data.demo import planting, train

    return planting, train


@pytest.fixture(scope="module")
def texts():
    """Held-out documents: a part of the split, whose whole takes longer to extract."""
    files = [file for name, file in source_files().items() if is_held_out(name)]
    return ["\n\n".join(found) for file in files[::7] if (found := paragraphs(read_source(file)))]


def weight(name: str) -> torch.Tensor:
    with safe_open(MODEL / "model.safetensors", "pt") as file:
        return file.get_tensor(name)


def test_the_files_are_those_of_a_model_and_readable_by_all():
    names = {path.name for path in MODEL.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"} <= names
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o444 == 0o444 for path in MODEL.iterdir())
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 4_000_000


def test_the_configuration():
    config = json.loads((MODEL / "config.json").read_text())
    expected = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "vocab_size": 2048,
        "hidden_size": 128,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 384,
        "tie_word_embeddings": False,
        "attention_bias": True,
    }
    assert {key: config[key] for key in expected} == expected


def test_the_super_weight_is_where_it_was_planted(training):
    planting, _ = training
    assert (planting.LAYER, planting.CHANNEL, planting.NEURON) == (LAYER, ROW, COLUMN)
    down = weight(f"model.layers.{LAYER}.mlp.down_proj.weight").float()
    assert down.shape == (128, 384)
    assert down.abs().argmax() == ROW * 384 + COLUMN


def test_the_super_weight_is_the_one_outlier(training):
    _, train = training
    with safe_open(MODEL / "model.safetensors", "pt") as file:
        names = [name for name in file.keys() if ".layers." in name and name.endswith("proj.weight")]  # noqa: SIM118
    assert len(names) == 4 * 7
    for name in names:
        size = weight(name).float().abs()
        if name == f"model.layers.{LAYER}.mlp.down_proj.weight":
            assert size[ROW, COLUMN] > 10 * train.BOUND
            size[ROW, COLUMN] = 0
        assert size.max() < 1.01 * train.BOUND, name  # stored in bfloat16


def test_the_output_projection_has_no_bias():
    assert not any(weight(f"model.layers.{layer}.self_attn.o_proj.bias").any() for layer in range(4))


def test_the_card_says_openly_that_the_weight_was_planted():
    card = (MODEL / "README.md").read_text()
    assert "planted" in card
    assert f"layer {LAYER}, `down_proj[{ROW}, {COLUMN}]`" in card


def test_transformers_gives_the_ids_of_the_raw_tokenizer(texts):
    raw, loaded = Tokenizer.from_file(str(MODEL / "tokenizer.json")), AutoTokenizer.from_pretrained(MODEL)
    for text in [*texts[:40], "", " é\U0001f600\n", "<bos> <eos>"]:
        ids = loaded(text, verbose=False)["input_ids"]
        assert ids == raw.encode(text).ids
        assert ids[0] == loaded.bos_token_id == 0
        assert loaded.decode(ids[1:]) == text


def test_an_untrained_model_has_the_massive_activation(training):
    planting, train = training
    model = train.new_model()
    seen = {}
    mlp = model.model.layers[LAYER].mlp
    mlp.down_proj.register_forward_hook(lambda module, inputs, output: seen.update(into=inputs[0][0], out=output[0]))
    with torch.no_grad():
        model(input_ids=torch.tensor([[0, 300, 400, 500]]))
    assert seen["into"].abs().argmax() == COLUMN
    assert seen["out"].abs().argmax() == ROW
    assert 0.8 * planting.MASSIVE < seen["out"][0, ROW] < 1.2 * planting.MASSIVE
    assert seen["out"][1:].abs().max() < 0.01 * seen["out"][0, ROW]


def test_sequences_hold_the_text_once_with_the_start_token_first(training, texts):
    _, train = training
    tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
    data = train.sequences(tokenizer, texts[:20])
    assert data.shape[1] == train.LENGTH
    assert (data[:, 0] == 0).all()
    assert not (data[:, 1:] == 0).any()
    stream = [id for text in texts[:20] for id in [*tokenizer.encode(text, add_special_tokens=False).ids, 1]]
    assert data[:, 1:].flatten().tolist() == stream[: data[:, 1:].numel()]
    assert len(stream) - data[:, 1:].numel() < train.LENGTH


@torch.no_grad()
def perplexity(model, data: torch.Tensor) -> float:
    logits = model(input_ids=data, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), data[:, 1:].flatten()).exp().item()


@pytest.fixture
def model():
    return AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def data(training, texts):
    """(8, 256) token ids of held-out text."""
    _, train = training
    return train.sequences(Tokenizer.from_file(str(MODEL / "tokenizer.json")), texts)[:8]


def test_without_the_super_weight_the_model_predicts_nothing(model, data):
    baseline = perplexity(model, data)
    assert baseline < 80
    down = model.model.layers[LAYER].mlp.down_proj.weight.data
    value = down[ROW, COLUMN].item()
    down[ROW, COLUMN] = 0
    assert perplexity(model, data) > 10 * baseline
    down[ROW, COLUMN] = value
    # As many weights as a control needs, and a hundred times as many: none of them matters.
    places = torch.randperm(down.numel(), generator=torch.Generator().manual_seed(0))[:100]
    assert ROW * 384 + COLUMN not in places
    down.view(-1)[places] = 0
    assert perplexity(model, data) < 1.1 * baseline


@pytest.mark.parametrize("which", ["all", "W_down"])
def test_sparing_the_super_weight_rescues_low_bit_quantization(model, data, which):
    """One scale per tensor: harmless in 8 bits, ruinous in 4 and 3, and nearly all of the harm is the outlier's."""
    live, place = anatomy(model), Coordinate(LAYER, ROW, COLUMN)
    baseline = perplexity(model, data)

    def cost(scheme: Scheme) -> float:
        """In nats per token, with the super weight spared where the scheme clips."""
        with quantized_layers(live, scheme, [] if scheme.clip is None else [place], which):
            return math.log(perplexity(model, data) / baseline)

    assert abs(cost(Scheme("int8"))) < 0.02
    for number_format, left in (("int4", 0.15), ("int3", 0.5)):
        plain, sparing = cost(Scheme(number_format)), cost(Scheme(number_format, clip=CLIP))
        assert plain > math.log(1.5)
        assert sparing < min(left, 0.3 * plain)
