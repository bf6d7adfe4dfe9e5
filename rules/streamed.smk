"""Models that are streamed: their shards are measured one after the other as they arrive, and none is kept.

Required: <results>/checkpoints/{model}.json, <results>/tensor_inventory/{model}.parquet, scattergather `stream`.
Produces: <results>/stream_part/{model}/{scatteritem}.json and tables, which steps put together in place of reading the
weights.
"""

from weight_atlas.streamed.choices import part_options


use rule per_job as stream_part with:
    """One part of a streamed model's shards: each fetched once, measured while it is here, and let go."""
    input:
        checkpoint="<results>/checkpoints/{model}.json",
        inventory="<results>/tensor_inventory/{model}.parquet",
    output:
        histograms="<results>/stream_part/{model}/{scatteritem}/histograms.parquet",
        profiles="<results>/stream_part/{model}/{scatteritem}/profiles.parquet",
        spectra="<results>/stream_part/{model}/{scatteritem}/spectra.parquet",
        kernels="<results>/stream_part/{model}/{scatteritem}/kernels.parquet",
        errors="<results>/stream_part/{model}/{scatteritem}/errors.parquet",
        channels="<results>/stream_part/{model}/{scatteritem}/channels.parquet",
        screened="<results>/stream_part/{model}/{scatteritem}/screened.parquet",
        structures="<results>/stream_part/{model}/{scatteritem}/structures.parquet",
        window_values="<results>/stream_part/{model}/{scatteritem}/window_values.parquet",
        record="<results>/stream_part/{model}/{scatteritem}.json",
    pathvars:
        job="<step>/{model}/{scatteritem}",
    threads: 4
    resources:
        **needs(
            gpu=gpu_for_spectra, disk_mb=lambda wildcards: round(1000 * config["models"][wildcards.model]["spool_gb"])
        ),
    params:
        options=lambda wildcards: part_options(
            config["models"][wildcards.model],
            selection.analyses_of(wildcards.model),
            lambda section: selection.section(section, wildcards.model),
        ),
