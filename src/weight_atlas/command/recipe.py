"""`weight-atlas recipe`: the number formats of all parts of a model with the least error at a size."""

from dataclasses import replace
from typing import Annotated, Literal

from cyclopts import Parameter

from weight_atlas.command.options import DEFAULTS, OneModel, Options
from weight_atlas.command.project import Project
from weight_atlas.command.results import Extract, extract
from weight_atlas.command.scan import show
from weight_atlas.errors import AtlasError

_RECIPE = ("unit", "matrices", "type", "bits", "bytes", "sqnr_db", "weighted_by", "spared")
_PERPLEXITY = ("variant", "bits", "perplexity", "low", "high", "delta_nll")
Tool = Literal["llama.cpp", "llm-compressor", "bitsandbytes", "torchao", "gptqmodel"]


def recipe(
    model: OneModel,
    *,
    bits: Annotated[float | None, Parameter(help="Size in bits per weight, scales included.")] = None,
    gb: Annotated[float | None, Parameter(help="Size in GB (10^9 bytes), in place of bits.")] = None,
    format: Annotated[Tool, Parameter(help="Tool that is to read it.")] = "llama.cpp",
    perplexity: Annotated[bool, Parameter(negative=(), help="Score the model rounded so, too.")] = False,
    options: Options = DEFAULTS,
) -> None:
    """Choose for a size the number formats of all parts with the least error, and write the files that a tool reads.

    ```
    weight-atlas recipe bundled:demo --bits 4.5 --format llama.cpp
    weight-atlas recipe ./my-model --gb 4 --format torchao --perplexity
    ```
    """
    if (bits is None) == (gb is None):
        raise AtlasError("a recipe has one size", remedy="give --bits (per weight) or --gb (of the whole model)")
    name = f"{format}-{bits if bits is not None else f'{gb}GB'}"

    def prepare(project: Project) -> None:
        size = {"bits": bits} if bits is not None else {"gb": gb}
        project.set_entry("recipes", name, {"format": format, **size})

    def beside(project: Project, names: list[str]) -> list[str]:
        made = [f"quantization_recipe/{each}/{name}.csv" for each in names]
        return made + [f"recipe_perplexity/{each}/{name}.csv" for each in names if perplexity]

    def more(project: Project, model: str) -> list[Extract]:
        return _tables(project, model, name)

    show([model], [], options, prepare=prepare, beside=beside, more=more, judged=False)


def _tables(project: Project, model: str, name: str) -> list[Extract]:
    recipe = extract(project, "Recipe", f"quantization_recipe/{model}/{name}.csv", _RECIPE)
    for each in recipe:
        recipe = [replace(each, file=f"{each.file}; for the tool: quantization_recipe/{model}/{name}.files")]
    return [*recipe, *extract(project, "Perplexity", f"recipe_perplexity/{model}/{name}.csv", _PERPLEXITY)]
