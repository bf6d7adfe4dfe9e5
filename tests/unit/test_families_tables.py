"""Family files: strict, consistent, complete for the families promised, and documented."""

import json
from pathlib import Path

import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.families.architecture import Architecture
from weight_atlas.families.document import document
from weight_atlas.families.matching import Matcher
from weight_atlas.families.quantities import Quantities
from weight_atlas.families.registry import family_names, find_family
from weight_atlas.families.roles import CATEGORY, MEANING, Role
from weight_atlas.families.schema import FOLDER, Family, load_family, put_together, read_family

ROOT = Path(__file__).parents[2]
# Architectures that must be known, by what config.json says.
PROMISED = """
GPT2LMHeadModel GPTBigCodeForCausalLM GPTNeoForCausalLM GPTJForCausalLM CodeGenForCausalLM GPTNeoXForCausalLM
OPTForCausalLM BloomForCausalLM FalconForCausalLM MptForCausalLM LlamaForCausalLM Llama4ForCausalLM
Llama4ForConditionalGeneration MistralForCausalLM Mistral3ForConditionalGeneration Ministral3ForCausalLM
MixtralForCausalLM Qwen2ForCausalLM Qwen2MoeForCausalLM Qwen3ForCausalLM Qwen3MoeForCausalLM Qwen3NextForCausalLM
GemmaForCausalLM Gemma2ForCausalLM Gemma3ForCausalLM Gemma3ForConditionalGeneration PhiForCausalLM Phi3ForCausalLM
PhimoeForCausalLM OlmoForCausalLM Olmo2ForCausalLM Olmo3ForCausalLM OlmoeForCausalLM StableLmForCausalLM
Starcoder2ForCausalLM CohereForCausalLM Cohere2ForCausalLM GraniteForCausalLM GraniteMoeForCausalLM
DeepseekV2ForCausalLM DeepseekV3ForCausalLM KimiK2ForCausalLM GptOssForCausalLM GlmForCausalLM Glm4ForCausalLM
Glm4MoeForCausalLM NemotronForCausalLM PersimmonForCausalLM SmolLM3ForCausalLM Ernie4_5ForCausalLM
Ernie4_5_MoeForCausalLM Exaone4ForCausalLM HunYuanDenseV1ForCausalLM MiniMaxForCausalLM DbrxForCausalLM
JambaForCausalLM FalconH1ForCausalLM Lfm2ForCausalLM MambaForCausalLM Mamba2ForCausalLM RwkvForCausalLM
BertForMaskedLM RobertaForMaskedLM DistilBertForMaskedLM ModernBertForMaskedLM ElectraForMaskedLM DebertaForMaskedLM
DebertaV2ForMaskedLM T5ForConditionalGeneration BartForConditionalGeneration
""".split()  # noqa: SIM905


@pytest.mark.parametrize("architecture", PROMISED)
def test_promised_families_are_known(architecture):
    assert find_family({"architectures": [architecture]}).modules


@pytest.mark.parametrize("name", family_names())
def test_each_table_says_what_its_norms_compute_and_which_is_the_final_one(name):
    family = load_family(name)
    assert family.describe["norm"]
    rows = [row for rows in (*family.modules.values(), *family.tensors.values()) for row in rows]
    final = [row for row in rows if row.component == "final" and row.stack in (None, "decoder")]
    # A decoder that has none must say so, lest it be forgotten.
    assert final or family.stack == "encoder" or family.describe["final_norm"]


@pytest.mark.parametrize("name", family_names())
def test_each_table_stands(name):
    family = load_family(name)
    assert family.title and (family.architectures or family.model_types)
    matcher = Matcher(family, Quantities(family, {}))
    assert matcher.match("model.vision_tower.x", (1,)).row.note
    assert {row.role for rows in family.modules.values() for row in rows} - {None} <= set(Role)


def test_every_family_has_a_name_list_of_a_tiny_model():
    listed = set()
    for path in (ROOT / "tests/families/names").glob("*.txt"):
        architecture, model_type, overrides = path.read_text().splitlines()[0].split(maxsplit=2)
        config = {**json.loads(overrides), "architectures": [architecture], "model_type": model_type}
        listed.add(find_family(config).name)
    assert set(family_names()) - listed == {"gguf", "gguf_encoder"}  # llama.cpp's names: held in test_families_gguf


def test_every_fragment_is_used():
    extended = {base for path in FOLDER.glob("*.yaml") for base in read_family(path).extends}
    assert {path.stem for path in FOLDER.glob("_*.yaml")} - extended == {"_common"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modulez: {a: W_Q}", "modulez"),
        ("modules: {a: W_QQ}", "W_QQ|Input should be"),
        ("modules: {a: {role: W_Q, layuot: blocks}}", "layuot"),
        ("modules: {a: {pieces: [W_Q, W_K], layout: sideways}}", "unknown layout sideways"),
        ("modules: {a: {pieces: [W_Q, W_Q], layout: blocks}}", "twice"),
        ("modules: {a: {role: W_Q, pieces: [W_Q, W_K], layout: blocks}}", "either `role` or `pieces`"),
        ("modules: {a: {pieces: [W_Q, W_K]}}", "`pieces` need a layout"),
        ("tensors: {a: other}", "needs a `note`"),
        ("modules: {a: {role: norm, component: post_ffn}}", "unknown place of a norm post_ffn: use final, "),
        ("modules: {a: {role: norm, norm: ScaleNorm}}", "unknown norm ScaleNorm"),
        ("modules: {a: {role: W_O, norm: RMSNorm}}", "only a row of role `norm`"),
        ("describe: {norm: ScaleNorm}", "unknown norm ScaleNorm: use RMSNorm, "),
        ("describe: {final_norm: no}", "final_norm|Input should be"),
        ("describe: {final_norm: missing}", "unknown final_norm missing: use none, without parameters"),
        ("modules: {a: W_Q}\nmodules: {b: W_K}", "modules given twice"),
        ("modules:\n  a: W_Q\n  a: W_K", "a given twice"),
        ("[1, 2]", "not a valid family file"),
        ("modules: {a: [", "not a valid family file"),
    ],
)
def test_a_bad_file_says_what_is_wrong(tmp_path, text, message):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(AtlasError, match=message) as error:
        read_family(path)
    assert "bad.yaml" in str(error.value)


def test_extending_merges_and_removes():
    child = put_together(
        Family.model_validate(
            {
                "name": "child", "extends": ["llama", "_qk_norm"],
                "modules": {"norm": None, "extra": "W_aux"}, "configuration": {"d_ff": "wide"},
            }
        )
    )  # fmt: skip
    llama = load_family("llama")
    assert child.modules.keys() ^ llama.modules.keys() == {
        "norm", "extra", "layers.{layer}.self_attn.q_norm", "layers.{layer}.self_attn.k_norm",
    }  # fmt: skip
    assert child.prefixes == llama.prefixes and child.architectures == ()
    assert Quantities(child, {"wide": 7, "intermediate_size": 5}).of("d_ff") == 7


def test_a_circle_of_extends_is_an_error(monkeypatch):
    family = Family.model_validate({"name": "round", "extends": "round"})
    monkeypatch.setattr("weight_atlas.families.schema.own_family", lambda name: family)
    with pytest.raises(AtlasError, match="round -> round"):
        put_together(family)


def test_quantities_are_keys_products_and_lists():
    family = put_together(
        Family.model_validate(
            {
                "name": "x", "assume": {"expand": 2},
                "configuration": {
                    "ssm_inner": ["given", "expand*hidden_size"],
                    "n_kv_heads": [{"use": 1, "when": {"single": True}}, "n_heads"],
                },
            }
        )
    )  # fmt: skip
    values = Quantities(family, {"hidden_size": 6, "num_attention_heads": [2, 3], "single": False})
    assert (values.of("ssm_inner"), values.of("n_heads"), values.of("n_kv_heads", 1)) == (12, None, 3)
    assert Quantities(family, {"single": True}).of("n_kv_heads") == 1
    assert values.of("vocabulary") is None
    with pytest.raises(AtlasError, match="not divisible"):
        Quantities(family, {"hidden_size": 7, "num_attention_heads": 2}).of("head_dim")


def test_scales_are_products_of_what_the_configuration_gives():
    def scale(name, family, **config):
        return Quantities(load_family(family), config).scale(name)

    assert scale("logits", "llama") == scale("mlp", "llama", hidden_size=64) == 1.0
    assert scale("logits", "granite", logits_scaling=8.0) == 0.125
    # The same key is a factor in one family and a divisor in others.
    assert scale("logits", "hyperclovax", logits_scaling=8.0) == 8.0
    assert scale("logits", "cohere") == 0.0625 and scale("logits", "cohere", logit_scale=0.25) == 0.25
    assert scale("logits", "minicpm3", hidden_size=1024, dim_model_base=256) == 0.25
    assert scale("mlp", "minicpm3", scale_depth=1.4, num_hidden_layers=49) == pytest.approx(0.2)
    assert scale("mlp", "falcon_h1", mlp_multipliers=[0.5, 0.75]) == 0.75
    assert scale("logits", "mpt", logit_scale="inv_sqrt_d_model", d_model=64) == 0.125
    assert scale("logits", "t5", model_type="t5", d_model=64) == 0.125
    assert scale("logits", "t5", model_type="t5", d_model=64, tie_word_embeddings=False) == 1.0
    assert scale("logits", "t5", model_type="mt5", d_model=64) == 1.0
    assert scale("logits", "granite", logits_scaling=0) == scale("mlp", "granite", residual_multiplier=None) == 1.0


def test_contexts_are_read_by_every_key_that_families_have():
    def context(**config):
        return Architecture.common(config).context

    assert context(max_sequence_length=9) == context(text_config={"n_ctx": 9}) == 9
    assert context(context_length=9) is None and context(n_positions=-1) is None
    assert Architecture(load_family("rwkv"), {"context_length": 9}).context == 9


def test_every_role_has_a_meaning_and_a_category():
    assert MEANING.keys() == CATEGORY.keys() == set(Role)


def test_documentation_is_up_to_date():
    page = ROOT / "docs/families.md"
    assert page.read_text(encoding="utf-8") == document(), (
        "run: python -m weight_atlas.families.document > docs/families.md"
    )
