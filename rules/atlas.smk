"""The page of each model.

Required: the outputs of the model's analyses, report/*.rst.
Produces: <results>/atlas/{model}.md.
"""


rule atlas:
    """The page of a model: headline, figures and tables of all its analyses."""
    input:
        products=lambda wildcards: products_of(wildcards.model),
        captions=lambda wildcards: [ROOT / f"report/{name}.rst" for name in analyses_of(wildcards.model)],
    output:
        page_="<results>/atlas/{model}.md",
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


rule atlases:
    input:
        expand("<results>/atlas/{model}.md", model=config["models"]),
