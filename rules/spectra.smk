"""Spectra: singular values of every weight matrix, and what follows from them.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet, scattergather `part`.
Produces: <results>/singular_values/{model}.parquet, <results>/effective_rank/{model}.csv with its figure and views,
<results>/attention_kernel/{model}.parquet, <results>/attention_head/{model}.csv with its figures and summaries,
<results>/heavy_tail/{model}.csv with its summary and figures, <results>/spectrum_view/{model}.csv with its figure,
<results>/spectra_report/{model}.md.
"""

shown = shown_under("Spectra")


use rule per_job as singular_values_part with:
    """Singular values of the matrices of one part of a model, balanced by cost."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        part="<results>/singular_values_part/{model}/{scatteritem}.parquet",
    pathvars:
        job="<step>/{model}/{scatteritem}",
    threads: 4
    resources:
        **needs(gpu=gpu_for_spectra),


use rule per_model as singular_values with:
    """Singular values of every weight matrix of a model, the parts put together."""
    input:
        parts=spectra_parts,
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table="<results>/singular_values/{model}.parquet",


use rule per_model as effective_rank with:
    """Effective rank of every weight matrix, by layer and role, and close views of single ones."""
    input:
        singular_values="<results>/singular_values/{model}.parquet",
    output:
        table=shown("<results>/effective_rank/{model}.csv", "table"),
        statistics=shown("<results>/effective_rank/{model}/statistics.csv", "statistics by role"),
        layers="<results>/effective_rank/{model}/layers.csv",
        phase_statistics="<results>/effective_rank/{model}/phases.csv",
        trends="<results>/effective_rank/{model}/trends.csv",
        figure=shown("<results>/effective_rank/{model}.png", "figure"),
        view=shown("<results>/spectrum_view/{model}.csv", "table"),
        components="<results>/spectrum_view/{model}/components.csv",
        view_figure=shown("<results>/spectrum_view/{model}.png", "figure"),
    params:
        options={**config["effective_rank"], **config["spectrum_view"]},


rule effective_ranks:
    """The effective-rank tables of all models."""
    input:
        for_models("effective_rank", "<results>/effective_rank/{model}.csv"),


use rule per_model as attention_kernel with:
    """Spectra of the kernels W_Q^T W_K and W_O W_V of every attention head."""
    input:
        unpack(from_stream("kernels")),
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table="<results>/attention_kernel/{model}.parquet",
    threads: 4
    params:
        options=options("attention_kernel"),


use rule per_model as attention_head with:
    """Measures, labels and heat maps of attention heads, and a close look at chosen ones."""
    input:
        attention_kernel="<results>/attention_kernel/{model}.parquet",
    output:
        table=shown("<results>/attention_head/{model}.csv", "table"),
        by_head="<results>/attention_head/{model}/by_head.csv",
        by_layer="<results>/attention_head/{model}/by_layer.csv",
        figure=shown("<results>/attention_head/{model}.png", "heat maps"),
        pages=shown("<results>/attention_head/{model}/pages.png", "chosen heads"),
    params:
        options=options("attention_head"),


rule attention_heads:
    """The attention-head tables of all models."""
    input:
        for_models("attention_head", "<results>/attention_head/{model}.csv"),


use rule per_model as heavy_tail with:
    """Heavy tails of every weight matrix: power law, random bulk, norms."""
    input:
        singular_values="<results>/singular_values/{model}.parquet",
    output:
        table=shown("<results>/heavy_tail/{model}.csv", "table"),
        summary=shown("<results>/heavy_tail/{model}.json", "summary"),
        figure=shown("<results>/heavy_tail/{model}.png", "alpha by layer"),
        densities=shown("<results>/heavy_tail/{model}/densities.png", "chosen matrices"),
    params:
        options=options("heavy_tail"),


rule heavy_tails:
    """The heavy-tail tables of all models."""
    input:
        for_models("heavy_tail", "<results>/heavy_tail/{model}.csv"),


rule spectrum_views:
    """The close views of all models."""
    input:
        for_models("spectrum_view", "<results>/spectrum_view/{model}.csv"),


use rule per_model as spectra_report with:
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
        page=shown("<results>/spectra_report/{model}.md", "page"),
    params:
        # The page looks at what the figures show.
        options=lambda wildcards: {
            "heads": config["attention_head"]["heads"],
            "matrices": config["spectrum_view"]["matrices"],
        },


rule spectra_reports:
    """The spectra pages of all models."""
    input:
        for_models("spectra_report", "<results>/spectra_report/{model}.md"),
