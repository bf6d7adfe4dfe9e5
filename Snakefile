# weight-atlas: maps of the weights of language models.
# What to analyse is said in config/config.yaml; config/README.md explains every key.

from snakemake.utils import min_version
from weight_atlas.workflow.series import gives_models

min_version("9.27")


if not gives_models(config):  # a configuration of one's own takes the place of the default

    configfile: os.path.join(workflow.basedir, "config", "config.yaml")


report: "report/workflow.rst"


pathvars:
    benchmarks="<logs>/benchmarks",


include: "rules/common.smk"
include: "rules/storage.smk"
include: "rules/inputs.smk"
include: "rules/products.smk"
include: "rules/run.smk"
include: "rules/steps.smk"


scattergather:
    part=config["singular_values"]["parts"],
    stream=config["stream_part"]["parts"],


include: "rules/checkpoints.smk"
include: "rules/streamed.smk"
include: "rules/weights.smk"
include: "rules/quantization.smk"
include: "rules/spectra.smk"
include: "rules/embeddings.smk"
include: "rules/circuits.smk"
include: "rules/tokens.smk"
include: "rules/token_weights.smk"
include: "rules/super_weights.smk"
include: "rules/vocabulary.smk"
include: "rules/ablations.smk"
include: "rules/comparison.smk"
include: "rules/series.smk"
include: "rules/pages.smk"


# Pods, which exchange files through a storage, would not find what is in this machine's cache of the hub.
if config["local_downloads"] and not workflow.storage_settings.default_storage_provider:
    downloads = "fetch_checkpoint", "fetch_tokenizer", "corpus", "task_requests"
    workflow.localrules(*map(workflow.modifier.modify_rulename, downloads))  # a module's rules have other names


for made in workflow.rules:
    if made.script and "{params.step}" in made.script:
        # The report shows the code of scripts only where their paths are written out.
        made.script = made.script.format(params=made.params) if made.output else None  # templates have none
        if config["shared_cache"]:
            made.run_func = SharedCache(user_path(config["shared_cache"])).through(made.run_func)
        made.run_func = recorded(made)


hide_secrets()
say_changed()


rule all:
    default_target: True
    input:
        rules.atlases.input,
        rules.vector_pages.input,
        rules.pair_pages.input,
        rules.series_pages.input,
        # What the pages link to, so that what was deleted is made again.
        [products_of(model) for model in config["models"]],
        [getattr(rules, name).output for name in COMPARISONS],
        rules.tokenizers.input,
        rules.run_configs.output,


onstart:
    say_unrecorded()
    hold_run_locks()
    keep_outputs()
    keep_warm()
    say_cost()


onsuccess:
    say_what_steps_took()
    say_renewed()


onerror:
    write_unfinished_pages(workflow, logger.error)
    say_what_steps_took()
    say_renewed()
