"""What all steps have in common, written once: `use rule per_model as NAME with:` says what is a step's own.

A step is named like its rule, and so are its script, log, benchmark and caption. Steps that run the model say so by the
template that they use: as many GPUs as the configuration gives, and an environment with transformers. Other GPUs, and
threads, are said by the rules that need them; memory and time are in weight_atlas/workflow/needs.py.

Required: of rules with wildcards other than {model} the path variable `job`, which names their logs.
Produces: nothing; the templates are no targets.
"""

name_steps()


rule per_model:
    """Template of the steps that run once a model."""
    log:
        "<logs>/<step>/{model}.log",
    benchmark:
        "<benchmarks>/<step>/{model}.tsv"
    conda:
        "../envs/analysis.yaml"
    resources:
        **needs(),
    params:
        **step("per_model"),
    script:
        "../scripts/{params.step}.py"


use rule per_model as per_job with:
    """Template of the steps with other wildcards: corpora, ablations, tasks, parts, or none."""
    log:
        "<logs>/<job>.log",
    benchmark:
        "<benchmarks>/<job>.tsv"
    pathvars:
        job="<step>",


use rule per_model as per_model_on_gpu with:
    """Template of the steps that run a model."""
    conda:
        "../envs/lm.yaml"
    resources:
        **needs(gpu=gpus),


use rule per_job as per_job_on_gpu with:
    """Template of the steps that run a model and have other wildcards too."""
    conda:
        "../envs/lm.yaml"
    resources:
        **needs(gpu=gpus),
