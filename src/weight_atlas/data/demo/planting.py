"""The circuit that makes one weight of the bundled model a super weight, set into the weights before training.

Models of this size grow none by themselves. The circuit is a chain whose links large models are known to grow; the
model is then trained around it with all its weights free:

1. the embedding of the start token lies in a direction of its own, with a large norm;
2. one neuron of layer 1 fires on that direction;
3. one weight of that layer's down projection, the super weight, writes the neuron's value into one channel: a massive
   activation at the first position;
4. by that channel, a head of layer 2 attends to the first position from everywhere (an attention sink);
5. it writes the same constant into every position, and
6. the gains of all later norms count on this constant: without it, what they let through is far too large.

Of all links the super weight alone is an outlier of its matrix. The others take their strength from gains, from the
start token's embedding and from many channels, so that rounding a matrix spoils none of them.
"""

import math

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaMLP, LlamaRMSNorm

LAYER, CHANNEL, NEURON = 1, 7, 11  # the super weight is down_proj[CHANNEL, NEURON] of LAYER
EMBEDDING_STD = 0.3
START_NORM = 240.0  # norm of the start token's embedding over that of the other tokens
APART = 1.0  # norm of what the other tokens have against its direction, over that of the rest of their embedding
ACTIVATION = 220.0  # value of the neuron on the start token, before training
MASSIVE = 2200.0  # value that it writes into the channel, before training
SINK_LOGIT = 12.0  # attention logit of the first position in the sink head
SINK_GAIN = 3.0  # gain of the sink layer's norm on the channel
VALUE = 2.0  # norm of the sink head's value at the first position, over sqrt(d_model)
CONSTANT = 60.0  # norm of the constant that the sink head writes into every position
CONSTANT_CHANNELS = list(range(20, 52))
CONSTANT_GAIN, CHANNEL_GAIN = 0.1, 0.3  # gains of the later norms on the constant's channels, and on the channel


@torch.no_grad()
def plant(model: LlamaForCausalLM, start_token: int) -> None:
    """Set the circuit into an untrained Llama model with attention biases, in place; draws from torch's generator."""
    config, embedding = model.config, model.model.embed_tokens.weight
    layers = [layer for layer in model.model.layers if isinstance(layer, LlamaDecoderLayer)]
    sink = layers[LAYER + 1]
    _clear_channels(layers)
    direction = _plant_start_token(embedding, start_token, config.initializer_range)
    _plant_spike(layers[LAYER].mlp, direction)
    _plant_sink(sink, config)
    later = [norm for layer in layers[LAYER + 2 :] for norm in (layer.input_layernorm, layer.post_attention_layernorm)]
    _set_gains([sink.post_attention_layernorm, *later, model.model.norm], config.hidden_size)


def _clear_channels(layers: list[LlamaDecoderLayer]) -> None:
    """Let nothing write into the circuit's channels."""
    for layer in layers:
        layer.self_attn.o_proj.weight[[CHANNEL, *CONSTANT_CHANNELS]] = 0
        layer.mlp.down_proj.weight[[CHANNEL, *CONSTANT_CHANNELS]] = 0


def _plant_start_token(embedding: torch.Tensor, start_token: int, std: float) -> torch.Tensor:
    """Set the start token in a direction of the constant's channels, which later norms hardly read; return it, norm 1.

    The other tokens are set off against it, so that the neuron stays silent on them: training else makes a second start
    token of a frequent one.
    """
    d_model = embedding.shape[1]
    norm = EMBEDDING_STD * math.sqrt(d_model)
    direction = torch.zeros(d_model)
    direction[CONSTANT_CHANNELS] = torch.sign(torch.randn(len(CONSTANT_CHANNELS)))
    direction /= direction.norm()
    embedding.mul_(EMBEDDING_STD / std)
    embedding[:, [CHANNEL, *CONSTANT_CHANNELS]] = 0
    embedding.sub_(direction * norm * APART)
    embedding[start_token] = direction * norm * START_NORM
    return direction


def _plant_spike(mlp: LlamaMLP, direction: torch.Tensor) -> None:
    # After the norm the start token is direction * sqrt(d_model): either row then gives sqrt(ACTIVATION).
    row = direction * math.sqrt(ACTIVATION / len(direction))
    mlp.gate_proj.weight[NEURON] = row
    mlp.up_proj.weight[NEURON] = row
    mlp.down_proj.weight[:, NEURON] = 0
    mlp.down_proj.weight[CHANNEL, NEURON] = MASSIVE / ACTIVATION


def _plant_sink(layer: LlamaDecoderLayer, config: LlamaConfig) -> None:
    """Make head 0 attend to the position whose channel is massive, and write the constant from there."""
    attention, d_model, heads = layer.self_attn, config.hidden_size, config.num_attention_heads
    head_dim, kv_heads = config.head_dim or d_model // heads, config.num_key_value_heads or heads
    query_bias = attention.q_proj.bias.view(heads, head_dim)
    key = attention.k_proj.weight.view(kv_heads, head_dim, d_model)
    value = attention.v_proj.weight.view(kv_heads, head_dim, d_model)
    layer.input_layernorm.weight[CHANNEL] = SINK_GAIN
    # It must not know the start token by anything else. Where gain and weights are zero, no gradient revives them.
    layer.input_layernorm.weight[CONSTANT_CHANNELS] = 0
    for weight in (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight):
        weight[:, [CHANNEL, *CONSTANT_CHANNELS]] = 0
    # At the first position the norm leaves the channel alone, at sqrt(d_model) times its gain.
    match = _slow_dimensions(head_dim) * math.sqrt(SINK_LOGIT * math.sqrt(head_dim / d_model))
    query_bias[0] = match
    key[0, :, CHANNEL] = match / SINK_GAIN
    signs = torch.sign(torch.randn(head_dim)) / math.sqrt(head_dim)
    value[0, :, CHANNEL] = signs * VALUE / SINK_GAIN
    share = CONSTANT / (VALUE * math.sqrt(d_model * len(CONSTANT_CHANNELS)))
    for channel in CONSTANT_CHANNELS:
        attention.o_proj.weight[channel, :head_dim] = signs * share * (1 if channel % 2 else -1)


def _slow_dimensions(head_dim: int) -> torch.Tensor:
    """A unit vector on the half of a head's dimensions that the rotary embedding turns least."""
    vector = torch.zeros(head_dim)
    quarter = head_dim // 4
    vector[quarter : 2 * quarter] = 1
    vector[3 * quarter :] = 1
    return vector / vector.norm()


def _set_gains(norms: list[LlamaRMSNorm], d_model: int) -> None:
    """Undo the shrinking that the constant causes in the norms that come after it."""
    gain = math.hypot(CONSTANT / math.sqrt(d_model), EMBEDDING_STD) / EMBEDDING_STD
    for norm in norms:
        norm.weight.fill_(gain)
        norm.weight[CONSTANT_CHANNELS] = CONSTANT_GAIN
        norm.weight[CHANNEL] = CHANNEL_GAIN
