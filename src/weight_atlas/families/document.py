"""docs/families.md, written from the tables: `python -m weight_atlas.families.document > docs/families.md`."""

import inspect
import sys

from weight_atlas.families import layouts
from weight_atlas.families.registry import family_names
from weight_atlas.families.roles import FINAL_NORMS, MATRIX_ROLES, MEANING, NORM_PLACES, NORMS, Role
from weight_atlas.families.schema import COMMON, Family, load_family, own_family, present

HEAD = """\
# Model families

How weight-atlas knows what a tensor is: a table for each family of models maps names on disk to roles. This page is
written from those tables (`src/weight_atlas/families/*.yaml`) by `python -m weight_atlas.families.document`.

## How the family of a model is found

By `architectures[0]` of its `config.json`, else by `model_type`; for a model that also sees or hears, by the same keys
of its language part (`text_config`), whose tensors are analysed while the rest is inventoried as `other`. Never by a
part of a name. `family:` in a model's entry of the configuration overrules this, with a family, architecture or model
type from the table below:

```yaml
models:
  my-model:
    source: path/to/folder
    family: llama
```

A tensor that no row of the family explains is an error that lists the names, and so is one that two rows explain. With
`allow_other: true` in the model's entry such tensors are kept in the inventory, with role `other`. No analysis puts
them together: values, quantiles and densities are those of each by itself, and spectra leave them out.

With `allow_other: true` alone a checkpoint that no family explains (a vector of token weights, a table of embeddings, a
state dict without config.json) is opened in the same way, all of its tensors `other`:

```yaml
models:
  detector:
    source: path/to/checkpoint.pt
    key: model_state_dict
    allow_other: true
    analyses: [architecture_summary, weight_statistics, weight_cdf]
```

The inventory also refuses a file that is not the whole model, or not the one that `config.json` describes: a layer, an
expert or a tensor of one layer that is lost, layers beyond the last (unless `num_nextn_predict_layers` or their own
tensors say that they predict further tokens), tensors without elements, and any shape that does not follow from
`config.json`, or, where that does not give a number, from the other tensors. The message names the tensor, its shape,
what it must be and the key of `config.json` that says so. Stated in the inventory's `note` instead: rows of an
embedding beyond `vocab_size`; matrices of GPT-2's names that are stored (out, in), which those that are not square
prove; and square ones where nothing proves it.

A LoRA adapter (PEFT) does not say what it adapts: the reading of its names that most families share is taken, unless
`family:` says which; where families differ and none is clearly the usual one (`qkv_proj` alone), it must. Both factors
of an update must have one rank. They keep roles of their own (`lora_A`, `lora_B`), with the role they change in
`of_role`. The inventory's `note` gives rank and scale of each update, by `alpha_pattern`, `rank_pattern` and
`use_rslora` as PEFT reads them, so that the change of a weight is `scale * lora_B lora_A`. AdaLoRA's singular values
and IA3's factors have role `aux`; new rows of an embedding (trainable tokens) are listed as `other`, weights stored
whole keep their role.

A model that stores only one of token embedding and head uses it for both, unless its `config.json` says
`tie_word_embeddings: false` (of a composite model, its outermost level counts before that of the language part): then
the other one is missing, and what needs it ends with an error. Where the values of a packed tensor had to be read
otherwise than its settings say, as GPTQ zero points that contradict `sym`, the inventory's `note` says so.

A GGUF file has llama.cpp's names whatever the model, and its own family.

The same tables say what the live model's parameters are, where a model is run: transformers' own conversion mapping
leads from names on disk to live ones (renamed modules, stacked experts, joined matrices). Only where code that ships
with a checkpoint calls its matrices as no row does are they guessed from common names, and the step's log says so.

## Adding a family

1. Three lines in `src/weight_atlas/families/mymodel.yaml`, and below them what differs:

   ```yaml
   title: My model
   extends: llama
   architectures: [MyModelForCausalLM]
   modules:
     layers.{layer}.self_attn.q_norm: norm                     # one more module, with its weight and perhaps a bias
     layers.{layer}.mlp.gate_proj: null                        # one that it does not have
     layers.{layer}.mlp.gate_up_proj: {pieces: [W_gate, W_up], layout: halves}
   ```

2. One line in `tests/families/names/mymodel.txt` that says how transformers builds a tiny one; all sizes that would
   stay large are in it, such as `intermediate_size` and `num_key_value_heads`:

   ```
   MyModelForCausalLM mymodel {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 300}
   ```

3. `python tests/families/name_list.py mymodel` writes the rest of that file: the names on disk, their shapes, and the
   roles by the new table. Read it.
4. `pytest tests/families -k mymodel` builds the model, saves it, and holds the table to what the live model computes:
   queries, keys and values head by head, the feed-forward parts, every expert. Then write this page anew.

What a family file may say:

| key | meaning |
|---|---|
| `title`, `about` | the models' name, and what is special about them |
| `extends` | one or several files to begin with; later ones win, and `null` removes a row |
| `architectures`, `model_types` | the values in `config.json` that mean this family |
| `stack` | `decoder`, or `encoder` for models that are only one |
| `prefixes` | what may stand before the names |
| `modules` | module name: role; stands for its `.weight` and its `.bias` |
| `tensors` | whole tensor name: role |
| `buffers` | whole tensor name: why this stored constant is no parameter |
| `others` | beginning of names: why this part is not analysed |
| `configuration` | where a quantity stands in `config.json`: keys, products, quotients; the first found counts |
| `scales` | what multiplies `logits`, what an `mlp` adds, or `routed` experts: all factors that are found |
| `assume` | values of keys that `config.json` leaves out |
| `shapes` | logical rows and columns, by name or role, as `weight_atlas.families.shapes` reads them |
| `some_layers` | names that a layer may lack although it is otherwise like those that have them |
| `describe` | kind of norm, positions, attention... where no key tells; `final_norm`, see below |

In names, `{layer}`, `{expert}` and `{index}` stand for numbers. A row is a role, or a mapping with
`role` or `pieces`, and `layout`, `sizes`, `groups`, `component`, `norm`, `stack`, `heads`, `head_dim`, `bias`,
`same_as`, `buffer`, `note`, and the conditions `when`, `unless` (values in `config.json`), `kind` (of the layer) and
`shape`; `weight_atlas.families.schema.Row` says what each means. A list of rows must exclude each other by their
conditions.

## Norms

The `component` of a norm says where it stands, `describe: {norm: ...}` what the family's norms compute, and `norm` in
a row what that one computes where it differs. A decoder needs a norm at the place `final`, or says in
`describe: {final_norm: ...}` why it stores none; the checkpoint that lacks it is an error.
"""


def document() -> str:
    """The whole page as Markdown."""
    families = [own_family(name) for name in family_names()]
    lines = [*_meanings("place of a norm", NORM_PLACES), *_meanings("norm", NORMS)]
    lines += _meanings("`final_norm`", FINAL_NORMS)
    lines += ["## Families", "", "| family | models | found by | attention | feed-forward | remarks |"]
    lines += ["|---|---|---|---|---|---|", *map(_line, families), ""]
    lines += ["## Roles", "", "| role | meaning | spectrum |", "|---|---|---|"]
    lines += [f"| `{role}` | {MEANING[role]} | {'yes' if role in MATRIX_ROLES else ''} |" for role in Role]
    lines += ["", "## Layouts", "", "```text", _layouts(), "```", ""]
    lines += ["## Fragments to extend", "", "| file | what it adds |", "|---|---|", *_fragments(families), ""]
    return "\n".join([HEAD, *lines])


def _meanings(title: str, meanings: dict[str, str]) -> list[str]:
    return [f"| {title} | meaning |", "|---|---|", *(f"| `{word}` | {said} |" for word, said in meanings.items()), ""]


def _line(own: Family) -> str:
    family = load_family(own.name)
    keys = ", ".join(f"`{key}`" for key in (*own.architectures, *own.model_types))
    base = f" (extends {', '.join(f'`{name}`' for name in own.extends)})" if own.extends else ""
    attention = _stored(family, ("W_Q", "W_K", "W_V", "W_Q_b", "W_KV_b", "ssm_in", "ssm_Q"))
    feeding = _stored(family, ("W_gate", "W_up", "W_down"))
    return f"| `{own.name}`{base} | {own.title} | {keys} | {attention} | {feeding} | {own.about} |"


def _stored(family: Family, roles: tuple[str, ...]) -> str:
    """How tensors of these roles are stored: the pieces of each fused one, and the layouts."""
    found: dict[str, None] = {}
    for rows in (*present(family.modules).values(), *present(family.tensors).values()):
        for row in rows:
            held = row.roles
            if not row.bias and any(role in roles for role in held) and not row.component:
                words = " ".join(row.layout)
                fused = f"{', '.join(row.pieces)} {words}"
                kind = fused if row.pieces else f"{row.role} {words}" if words else "separate"
                found.setdefault(kind)
    return "; ".join(sorted(found, key=lambda kind: kind != "separate")) or "none"


def _layouts() -> str:
    text = inspect.getdoc(layouts) or ""
    return text[text.index("stacked  ") : text.index("\nAll ways")].strip()


def _fragments(families: list[Family]) -> list[str]:
    used = {name for family in families for name in family.extends if name.startswith("_")}
    return [f"| `{name}` | {own_family(name).about} |" for name in sorted({*used, COMMON})]


if __name__ == "__main__":
    sys.stdout.write(document())
