"""Spectra: singular values of every weight matrix, and what follows from them.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet, scattergather `part`.
Produces: <results>/singular_values/{model}.parquet, <results>/effective_rank/{model}.csv with its figure and views,
<results>/attention_kernel/{model}.parquet, <results>/attention_head/{model}.csv with its figures and summaries,
<results>/heavy_tail/{model}.csv with its summary and figures, <results>/spectrum_view/{model}.csv with its figure,
<results>/spectra_report/{model}.md.
"""


rule singular_values_part:
    """Singular values of the matrices of one part of a model, balanced by cost."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        part="<results>/singular_values_part/{model}/{scatteritem}.parquet",
    log:
        "<logs>/singular_values_part/{model}/{scatteritem}.log",
    benchmark:
        "<benchmarks>/singular_values_part/{model}/{scatteritem}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=720,
    params:
        code=code_of("singular_values_part"),
    script:
        "../scripts/singular_values_part.py"


rule singular_values:
    """Singular values of every weight matrix of a model, the parts put together."""
    input:
        parts=gather.part("<results>/singular_values_part/{{model}}/{scatteritem}.parquet"),
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table="<results>/singular_values/{model}.parquet",
    log:
        "<logs>/singular_values/{model}.log",
    benchmark:
        "<benchmarks>/singular_values/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        code=code_of("singular_values"),
    script:
        "../scripts/singular_values.py"


rule effective_rank:
    """Effective rank of every weight matrix, by layer and role."""
    input:
        singular_values="<results>/singular_values/{model}.parquet",
    output:
        table=report(
            "<results>/effective_rank/{model}.csv",
            caption="../report/effective_rank.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "table"},
        ),
        statistics=report(
            "<results>/effective_rank/{model}/statistics.csv",
            caption="../report/effective_rank.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "statistics by role"},
        ),
        layers="<results>/effective_rank/{model}/layers.csv",
        phase_statistics="<results>/effective_rank/{model}/phases.csv",
        trends="<results>/effective_rank/{model}/trends.csv",
        figure=report(
            "<results>/effective_rank/{model}.png",
            caption="../report/effective_rank.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/effective_rank/{model}.log",
    benchmark:
        "<benchmarks>/effective_rank/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        options=options("effective_rank"),
        code=code_of("effective_rank"),
    script:
        "../scripts/effective_rank.py"


rule effective_ranks:
    """The effective-rank tables of all models."""
    input:
        for_models("effective_rank", "<results>/effective_rank/{model}.csv"),


rule attention_kernel:
    """Spectra of the kernels W_Q^T W_K and W_O W_V of every attention head."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table="<results>/attention_kernel/{model}.parquet",
    log:
        "<logs>/attention_kernel/{model}.log",
    benchmark:
        "<benchmarks>/attention_kernel/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 4
    resources:
        mem_mb=4000,
        runtime=240,
    params:
        options=options("attention_kernel"),
        code=code_of("attention_kernel"),
    script:
        "../scripts/attention_kernel.py"


rule attention_head:
    """Measures, labels and heat maps of attention heads, and a close look at chosen ones."""
    input:
        attention_kernel="<results>/attention_kernel/{model}.parquet",
    output:
        table=report(
            "<results>/attention_head/{model}.csv",
            caption="../report/attention_head.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "table"},
        ),
        by_head="<results>/attention_head/{model}/by_head.csv",
        by_layer="<results>/attention_head/{model}/by_layer.csv",
        figure=report(
            "<results>/attention_head/{model}.png",
            caption="../report/attention_head.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "heat maps"},
        ),
        pages=report(
            "<results>/attention_head/{model}/pages.png",
            caption="../report/attention_head.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "chosen heads"},
        ),
    log:
        "<logs>/attention_head/{model}.log",
    benchmark:
        "<benchmarks>/attention_head/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        options=options("attention_head"),
        code=code_of("attention_head"),
    script:
        "../scripts/attention_head.py"


rule attention_heads:
    """The attention-head tables of all models."""
    input:
        for_models("attention_head", "<results>/attention_head/{model}.csv"),


rule heavy_tail:
    """Heavy tails of every weight matrix: power law, random bulk, norms."""
    input:
        singular_values="<results>/singular_values/{model}.parquet",
    output:
        table=report(
            "<results>/heavy_tail/{model}.csv",
            caption="../report/heavy_tail.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "table"},
        ),
        summary=report(
            "<results>/heavy_tail/{model}.json",
            caption="../report/heavy_tail.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "summary"},
        ),
        figure=report(
            "<results>/heavy_tail/{model}.png",
            caption="../report/heavy_tail.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "alpha by layer"},
        ),
        densities=report(
            "<results>/heavy_tail/{model}/densities.png",
            caption="../report/heavy_tail.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "chosen matrices"},
        ),
    log:
        "<logs>/heavy_tail/{model}.log",
    benchmark:
        "<benchmarks>/heavy_tail/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        options=options("heavy_tail"),
        code=code_of("heavy_tail"),
    script:
        "../scripts/heavy_tail.py"


rule heavy_tails:
    """The heavy-tail tables of all models."""
    input:
        for_models("heavy_tail", "<results>/heavy_tail/{model}.csv"),


rule spectrum_view:
    """Close views of single weight matrices: energy per component, cumulative, milestones."""
    input:
        singular_values="<results>/singular_values/{model}.parquet",
    output:
        table=report(
            "<results>/spectrum_view/{model}.csv",
            caption="../report/spectrum_view.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "table"},
        ),
        components="<results>/spectrum_view/{model}/components.csv",
        figure=report(
            "<results>/spectrum_view/{model}.png",
            caption="../report/spectrum_view.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "figure"},
        ),
    log:
        "<logs>/spectrum_view/{model}.log",
    benchmark:
        "<benchmarks>/spectrum_view/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        options=options("spectrum_view"),
        code=code_of("spectrum_view"),
    script:
        "../scripts/spectrum_view.py"


rule spectrum_views:
    """The close views of all models."""
    input:
        for_models("spectrum_view", "<results>/spectrum_view/{model}.csv"),


rule spectra_report:
    """The spectra of one model as one page, with figures and every number."""
    input:
        inventory="<results>/tensor_inventory/{model}.parquet",
        singular_values="<results>/singular_values/{model}.parquet",
        attention_kernel="<results>/attention_kernel/{model}.parquet",
        ranks="<results>/effective_rank/{model}.csv",
        statistics="<results>/effective_rank/{model}/statistics.csv",
        phase_statistics="<results>/effective_rank/{model}/phases.csv",
        trends="<results>/effective_rank/{model}/trends.csv",
        ranks_figure="<results>/effective_rank/{model}.png",
        kernels_figure="<results>/attention_head/{model}.png",
        heads_figure="<results>/attention_head/{model}/pages.png",
        matrices_figure="<results>/spectrum_view/{model}.png",
    output:
        page=report(
            "<results>/spectra_report/{model}.md",
            caption="../report/spectra_report.rst",
            category="Spectra",
            labels={"model": "{model}", "type": "page"},
        ),
    log:
        "<logs>/spectra_report/{model}.log",
    benchmark:
        "<benchmarks>/spectra_report/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        # The page looks at what the figures show.
        options=lambda wildcards: {
            "heads": config["attention_head"]["heads"],
            "matrices": config["spectrum_view"]["matrices"],
        },
        code=code_of("spectra_report"),
    script:
        "../scripts/spectra_report.py"


rule spectra_reports:
    """The spectra pages of all models."""
    input:
        for_models("spectra_report", "<results>/spectra_report/{model}.md"),
