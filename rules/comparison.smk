"""Pairs of models compared: tensor by tensor, file by file, and what their analyses found side by side.

Required: of both models <results>/checkpoints/{model}.json and <results>/tensor_inventory/{model}.parquet, and the
tables of those analyses that both have.
Produces: <results>/comparison/{pair}.parquet, .csv, .json with their views and figures,
<results>/side_by_side/{pair}.csv, <results>/super_weight_inheritance/{pair}.csv, <results>/pair_page/{pair}.md,
<results>/atlas/pairs/{pair}.html; <results>/weight_sketch/{model}.parquet, and of the models of `lineage`
<results>/lineage/models.csv, merges.csv, models.json and models.png.
"""

from weight_atlas.settings.comparison import Compared, ComparisonPart
from weight_atlas.settings.spectra import Tails

shown = shown_under("Comparison")

MODEL_FILES = {
    "checkpoint": "<results>/checkpoints/{model}.json",
    "inventory": "<results>/tensor_inventory/{model}.parquet",
}
VERDICT = "<results>/super_weight_verification/{model}.json"
# What is shown side by side of each analysis that both models have.
BESIDE = {
    "super_weights": "<results>/super_weights/{model}.csv",
    "effective_rank": "<results>/effective_rank/{model}.csv",
    "heavy_tail": "<results>/heavy_tail/{model}.csv",
    "ablation_perplexity": "<results>/ablation_perplexity/{model}.csv",
    "impact_summary": "<results>/impact_summary/{model}/headline.csv",
}


use rule per_job as comparison_part with:
    """The tensors of two models that one part of the work compares, balanced by cost."""
    input:
        unpack(lambda wildcards: pairs.files(wildcards.pair, MODEL_FILES)),
    output:
        part="<results>/comparison_part/{pair}/{scatteritem}.parquet",
        heads="<results>/comparison_part/{pair}/{scatteritem}/heads.parquet",
        tokens="<results>/comparison_part/{pair}/{scatteritem}/tokens.parquet",
    pathvars:
        job="<step>/{pair}/{scatteritem}",
    threads: 4
    params:
        options=lambda wildcards: pairs.options(wildcards.pair, ComparisonPart),


use rule per_job as comparison with:
    """Two models compared: every tensor, what changed most, what stands alone, the files beside the weights."""
    input:
        unpack(lambda wildcards: pairs.files(wildcards.pair, MODEL_FILES)),
        parts=gather.part("<results>/comparison_part/{{pair}}/{scatteritem}.parquet"),
        heads_parts=gather.part("<results>/comparison_part/{{pair}}/{scatteritem}/heads.parquet"),
        tokens_parts=gather.part("<results>/comparison_part/{{pair}}/{scatteritem}/tokens.parquet"),
    output:
        tensors="<results>/comparison/{pair}.parquet",
        table=shown("<results>/comparison/{pair}.csv", "table"),
        roles=shown("<results>/comparison/{pair}/roles.csv", "by role and layer"),
        changes=shown("<results>/comparison/{pair}/tensors.csv", "most changed tensors"),
        heads=shown("<results>/comparison/{pair}/heads.csv", "heads"),
        tokens=shown("<results>/comparison/{pair}/tokens.csv", "most changed tokens"),
        alone=shown("<results>/comparison/{pair}/alone.csv", "tensors of one side"),
        files=shown("<results>/comparison/{pair}/files.csv", "files beside the weights"),
        summary=shown("<results>/comparison/{pair}.json", "summary"),
        figure=shown("<results>/comparison/{pair}.png", "change by role and layer"),
        changed=shown("<results>/comparison/{pair}/tensors.png", "most changed tensors"),
        directions=shown("<results>/comparison/{pair}/directions.png", "directions of the change"),
    pathvars:
        job="<step>/{pair}",
    params:
        options=lambda wildcards: {
            **pairs.options(wildcards.pair, Compared),
            **{key: config["heavy_tail"][key] for key in Tails.model_fields},
            "models": pairs.models(wildcards.pair),
        },


use rule per_job as side_by_side with:
    """What the analyses of two models found, side by side, where both ran."""
    input:
        unpack(lambda wildcards: pairs.files(wildcards.pair, {"findings": "<results>/findings/{model}.csv"})),
        tables=lambda wildcards: pairs.tables(wildcards.pair, 0, BESIDE, selection.analyses_of),
        tables_b=lambda wildcards: pairs.tables(wildcards.pair, 1, BESIDE, selection.analyses_of),
    output:
        table=shown("<results>/side_by_side/{pair}.csv", "table"),
    pathvars:
        job="<step>/{pair}",


use rule per_job_on_gpu as super_weight_inheritance with:
    """Super weights of two models: same places, values, and what their removal costs in both."""
    input:
        checkpoints=lambda wildcards: expand("<results>/checkpoints/{model}.json", model=pairs.models(wildcards.pair)),
        verdicts=lambda wildcards: expand(VERDICT, model=pairs.models(wildcards.pair)),
        text=corpus_of("super_weight_verification"),
    output:
        table=shown("<results>/super_weight_inheritance/{pair}.csv", "table"),
        summary="<results>/super_weight_inheritance/{pair}.json",
        figure=shown("<results>/super_weight_inheritance/{pair}.png", "figure"),
    pathvars:
        job="<step>/{pair}",
    params:
        options=lambda wildcards: {
            **config["super_weight_verification"],
            **pairs.running(wildcards.pair),
            "models": pairs.models(wildcards.pair),
        },


use rule per_job as pair_page with:
    """The pages of a pair of models: findings, a map of what changed, figures and tables of their comparison."""
    input:
        products=lambda wildcards: products_of_pair(wildcards.pair),
        captions=lambda wildcards: list(map(caption_file, steps_of_pair(wildcards.pair))),
        tensor_inventory=lambda wildcards: pairs.files(wildcards.pair, MODEL_FILES)["inventory"],
    output:
        page=shown("<results>/pair_page/{pair}.md", "page"),
        browser="<results>/atlas/pairs/{pair}.html",
        data=directory("<results>/atlas/pairs/{pair}"),
        summary="<results>/pair_page/{pair}.json",
    pathvars:
        job="<step>/{pair}",


rule pair_pages:
    """The pages of all pairs of models, and all that they show."""
    input:
        expand(written_by("pair_page"), pair=pairs.names),
        [products_of_pair(pair) for pair in pairs.names],


use rule per_model as weight_sketch with:
    """A sketch of a model's weights: of each matrix a few thousand elements, at places that only its shape decides."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table="<results>/weight_sketch/{model}.parquet",


use rule per_job as lineage with:
    """How the models are related: who comes from whom, who is unrelated, which are merges of others."""
    input:
        sketches=expand("<results>/weight_sketch/{model}.parquet", model=related),
        profiles=expand("<results>/weight_profile/{model}.parquet", model=related),
        singular_values=expand("<results>/singular_values/{model}.parquet", model=related),
    output:
        told=shown("<results>/lineage/told.csv", "what is told"),
        table=shown("<results>/lineage/models.csv", "pairs of models"),
        merges=shown("<results>/lineage/merges.csv", "merges"),
        summary=shown("<results>/lineage/models.json", "summary"),
        figure=shown("<results>/lineage/models.png", "tree and distances"),
    params:
        options={"models": related},
