"""Series of checkpoints: what a training run does to every number of the atlas, and how far it moves the weights.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet, and the outputs of the analyses
of the models of each series.
Produces: per model <results>/scalars/{model}.parquet; per series and later checkpoint <results>/drift/{series}/{model}.csv;
per series <results>/series/{series}.parquet, .json, .png, <results>/series/{series}/ and <results>/atlas/series/{series}.md and .html.

A new checkpoint adds its own jobs, and the series is told anew.
"""


wildcard_constraints:
    series="|".join(map(re.escape, runs.names)) or "none",


shown = shown_under("Series")


use rule per_model as scalars with:
    """The scalars of a model's atlas: every number that the registry of metrics knows, by role."""
    input:
        products=lambda wildcards: tables_of(wildcards.model),
    output:
        table="<results>/scalars/{model}.parquet",


use rule per_job as drift with:
    """How far a checkpoint's weights lie from those of the one before it in a series, and from the first."""
    input:
        unpack(checkpoints_before),
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        table="<results>/drift/{series}/{model}.csv",
    pathvars:
        job="<step>/{series}/{model}",


use rule per_job as series with:
    """Every scalar of the atlas over the checkpoints of a series, their drift, and when super weights arise."""
    input:
        scalars=lambda wildcards: expand("<results>/scalars/{model}.parquet", model=runs.models(wildcards.series)),
        drifts=lambda wildcards: expand(
            "<results>/drift/{series}/{model}.csv", series=wildcards.series, model=runs.later(wildcards.series)
        ),
        detected=of_checkpoints("super_weights", "<results>/super_weights/{model}.csv"),
        verified=of_checkpoints("super_weight_verification", "<results>/super_weight_verification/{model}.csv"),
    output:
        table="<results>/series/{series}.parquet",
        trends=shown("<results>/series/{series}/trends.csv", "trends"),
        drift=shown("<results>/series/{series}/drift.csv", "drift"),
        arisen=shown("<results>/series/{series}/arisen.csv", "super weights"),
        summary="<results>/series/{series}.json",
        figure=shown("<results>/series/{series}.png", "figure"),
        figures=directory("<results>/series/{series}/figures"),
    pathvars:
        job="<step>/{series}",
    params:
        options=lambda wildcards: {"models": runs.models(wildcards.series), "steps": runs.steps(wildcards.series)},


use rule per_job as series_page with:
    """The pages of a series of checkpoints: headline, findings, figures and tables, and links to the checkpoints' pages."""
    input:
        products=lambda wildcards: expand(written_by("series"), series=wildcards.series),
        caption=caption_file("series"),
    output:
        page="<results>/atlas/series/{series}.md",
        browser="<results>/atlas/series/{series}.html",
        data=directory("<results>/atlas/series/{series}"),
    pathvars:
        job="<step>/{series}",


rule series_pages:
    """The pages of all series."""
    input:
        expand(written_by("series_page"), series=runs.names),
