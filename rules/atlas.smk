"""The page of each model, and the page over all of them.

Required: the outputs of the models' analyses and of the comparisons, report/*.rst.
Produces: <results>/atlas/{model}.md and .json, <results>/overview/models.md.
"""

COMPARISONS = comparisons(
    impact_comparison=["impact_summary"],
    vocabulary_summary=["neuron_labels", "neuron_effects", "super_weight_cards"],
)


rule atlas:
    """The page of a model: headline, figures and tables of all its analyses."""
    input:
        products=lambda wildcards: products_of(wildcards.model),
        captions=lambda wildcards: [ROOT / f"report/{name}.rst" for name in analyses_of(wildcards.model)],
    output:
        page_="<results>/atlas/{model}.md",
        summary="<results>/atlas/{model}.json",
    log:
        "<logs>/atlas/{model}.log",
    benchmark:
        "<benchmarks>/atlas/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_of("atlas"),
    script:
        "../scripts/atlas.py"


rule overview:
    """The page over all models: what each one's page says first, and what compares them."""
    input:
        summaries=expand("<results>/atlas/{model}.json", model=config["models"]),
        products=[path for name in COMPARISONS for path in getattr(rules, name).output],
        captions=[ROOT / f"report/{name}.rst" for name in COMPARISONS],
    output:
        page_="<results>/overview/models.md",
    log:
        "<logs>/overview.log",
    benchmark:
        "<benchmarks>/overview.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_of("overview"),
    script:
        "../scripts/overview.py"


rule atlases:
    input:
        expand(rules.atlas.output, model=config["models"]),
