"""The findings of each model, its page, and the page over all of them.

Required: the outputs of the models' analyses and of the comparisons of models, report/*.rst.
Produces: <results>/findings/{model}.json and .csv, <results>/atlas/{model}.md and .json, <results>/run_config/{model}.json,
<results>/overview/models.md;
for a browser <results>/atlas/index.html, <results>/atlas/models/{model}.html and what they share.
"""

shown = shown_under("Findings")


COMPARISONS = selection.comparisons(
    super_weight_patterns=["super_weight_verification"],
    impact_comparison=["impact_summary"],
    vocabulary_summary=["neuron_labels", "neuron_effects", "super_weight_cards"],
)
COMPARISONS += ["lineage"] if len(related) > 1 else []  # of models that are named for it


use rule per_model as findings with:
    """Graded findings of all analyses of a model: what to look at first, with evidence and remedy."""
    input:
        products=lambda wildcards: judged_products_of(wildcards.model),
    output:
        found="<results>/findings/{model}.json",
        table=shown("<results>/findings/{model}.csv", "findings"),


rule all_findings:
    """The findings of all models."""
    input:
        expand("<results>/findings/{model}.json", model=config["models"]),


use rule per_model as atlas with:
    """The pages of a model, as Markdown and for a browser, and what it was analysed with: source, commit, settings."""
    input:
        unpack(lambda wildcards: cards_of(wildcards.model)),
        products=lambda wildcards: products_of(wildcards.model),
        captions=lambda wildcards: list(map(caption_file, selection.analyses_of(wildcards.model))),
        findings="<results>/findings/{model}.json",
        comparisons=lambda wildcards: pairs.of_model(wildcards.model, "<results>/comparison/{pair}.csv"),
        compared=lambda wildcards: pairs.of_model(wildcards.model, "<results>/comparison/{pair}.json"),
    output:
        page="<results>/atlas/{model}.md",
        browser="<results>/atlas/models/{model}.html",
        data=directory("<results>/atlas/models/{model}"),
        summary="<results>/atlas/{model}.json",
        record="<results>/run_config/{model}.json",
    params:
        options=lambda wildcards: {
            "configuration": run_config.of_model(config, wildcards.model, selection.analyses_of(wildcards.model))
        },


use rule per_job as overview with:
    """The pages over all models: what each one's page says first, what compares them, and what series tell."""
    input:
        summaries=expand("<results>/atlas/{model}.json", model=config["models"]),
        pairs=expand("<results>/pair_page/{pair}.json", pair=pairs.names),
        vectors=expand("<results>/vector_page/{vector}.json", vector=vectors.names),
        products=[path for name in COMPARISONS for path in written_by(name)],
        captions=list(map(caption_file, COMPARISONS)),
        series=expand("<results>/series/{series}.json", series=runs.names),
    output:
        page="<results>/overview/models.md",
        browser="<results>/atlas/index.html",
        data=directory("<results>/atlas/index"),


use rule per_job as atlas_assets with:
    """What all pages share: style, scripts, the library of charts, and the definitions of all numbers."""
    input:
        sources=own_files(
            sorted(str(path) for end in ("js", "css", "svg") for path in LIBRARY.glob(f"pages/assets/*.{end}"))
        ),
    output:
        assets=directory("<results>/atlas/assets"),


rule atlases:
    input:
        expand(written_by("atlas"), model=config["models"]),
        rules.atlas_assets.output,
        rules.overview.output,
