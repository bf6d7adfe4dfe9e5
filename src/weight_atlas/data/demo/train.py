"""Train the bundled model: tokenizer, planted circuit, 1200 steps of AdamW; about seven minutes on one core.

    python -m weight_atlas.data.demo.train [FOLDER]

The text is the training split of the bundled corpus (weight_atlas.tokens.python_docs), so the result depends on the
versions of the lock; the seed fixes the rest.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from cyclopts import App
from tokenizers import Tokenizer
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from weight_atlas.data.demo.planting import CHANNEL, LAYER, NEURON, plant
from weight_atlas.data.demo.tokenizer import BOS_ID, EOS_ID, PAD_ID, VOCABULARY, save_tokenizer, train_tokenizer
from weight_atlas.tokens.python_docs import python_docs

SEED = 0
LENGTH = 256  # tokens of a sequence, the start token included
POSITIONS = 512
STEPS, BATCH = 1200, 8
LEARNING_RATE, WARM_UP, DECAY_SHARE, FLOOR = 3e-3, 100, 0.25, 0.02
BETAS = (0.9, 0.95)
CLIP = 1.0
BOUND = 0.3  # of every weight in the layers' matrices but the super weight

app = App(help=__doc__)


def new_model() -> LlamaForCausalLM:
    """An untrained model with the circuit planted; the output projection's bias is zero and stays so."""
    torch.manual_seed(SEED)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=32,
            max_position_embeddings=POSITIONS,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            rms_norm_eps=1e-5,
            initializer_range=0.02,
            tie_word_embeddings=False,
            attention_bias=True,
            bos_token_id=BOS_ID,
            eos_token_id=EOS_ID,
            pad_token_id=PAD_ID,
        )
    )
    plant(model, BOS_ID)
    for layer in model.model.layers:
        layer.self_attn.o_proj.bias.requires_grad_(False)
    return model


def sequences(tokenizer: Tokenizer, texts: list[str]) -> torch.Tensor:
    """Return (n, LENGTH) token ids: the documents one after the other, each with its end token, cut into sequences.

    Every sequence begins with the start token, which stands nowhere else. The last, incomplete one is dropped.
    """
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    stream = np.concatenate([[*encoding.ids, EOS_ID] for encoding in encodings])
    body = LENGTH - 1
    rows = stream[: len(stream) // body * body].reshape(-1, body)
    return torch.from_numpy(np.pad(rows, ((0, 0), (1, 0)), constant_values=BOS_ID)).long()


def train(model: LlamaForCausalLM, data: torch.Tensor) -> None:
    """Train in place, without weight decay, which would dissolve the circuit.

    A bound keeps the matrices as free of outliers as the planting makes them; training would grow some, the constant's
    above all, and no low-bit format would then survive.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=BETAS, weight_decay=0.0)
    started, losses = time.monotonic(), []
    for step, batch in enumerate(_batches(data)):
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * _schedule(step)
        loss = _loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        _bound(model)
        losses.append(loss.item())
        if (step + 1) % 100 == 0:
            seconds = time.monotonic() - started
            print(f"step {step + 1}: loss {np.mean(losses[-100:]):.3f}, {seconds:.0f} s", flush=True)


@torch.no_grad()
def _bound(model: LlamaForCausalLM) -> None:
    """Clip the layers' matrices at BOUND, but for the super weight, and keep its neuron from writing anything else."""
    written = model.model.layers[LAYER].mlp.down_proj.weight[:, NEURON]
    super_weight = written[CHANNEL].clone()
    for module in model.model.layers.modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.clamp_(-BOUND, BOUND)
    written.zero_()
    written[CHANNEL] = super_weight


def _batches(data: torch.Tensor) -> Iterator[torch.Tensor]:
    """Yield STEPS batches: every sequence once in random order, then all of them again in another order."""
    generator = torch.Generator().manual_seed(SEED)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(STEPS):
        if len(order) < BATCH:
            order = torch.randperm(len(data), generator=generator)
        yield data[order[:BATCH]]
        order = order[BATCH:]


def _schedule(step: int) -> float:
    """Share of the learning rate at a step: linear warm-up, then constant, then linear decay."""
    return min(1.0, (step + 1) / WARM_UP, max(FLOOR, (1 - step / STEPS) / DECAY_SHARE))


def _loss(model: LlamaForCausalLM, batch: torch.Tensor) -> torch.Tensor:
    logits = model(input_ids=batch, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())


@app.default
def main(folder: Path = Path(__file__).parent / "model") -> None:
    """Train everything and write it to a folder."""
    torch.set_num_threads(1)
    texts = python_docs("train").text.tolist()
    tokenizer = train_tokenizer(texts)
    model, data = new_model(), sequences(tokenizer, texts)
    print(f"{model.num_parameters():,} parameters, {len(data):,} sequences", flush=True)
    train(model, data)
    model.bfloat16().save_pretrained(folder)
    save_tokenizer(folder, tokenizer, POSITIONS)
    for file in folder.iterdir():
        file.chmod(0o644)  # save_pretrained keeps the weights from everybody else


if __name__ == "__main__":
    app()
