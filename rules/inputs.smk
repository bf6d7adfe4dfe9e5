"""What jobs read where that depends on the configuration: functions for `input:`, by the rules that they are for.

Required: config, selection, choices, runs.
Produces: nothing.
"""

from weight_atlas.file_states import states_of
from weight_atlas.tokens.parts import corpus_parts

# What the parts of a streamed model have, by the name under which a step takes it.
STREAMED = "<results>/stream_part/{model}/{{scatteritem}}/{name}.parquet"


def from_stream(*names):
    """For `unpack`, what steps put together of a streamed model in place of reading its weights; else nothing."""

    def files(wildcards):
        if not config["models"][wildcards.model]["stream"]:
            return {}
        return {name: gather.stream(STREAMED.format(model=wildcards.model, name=name)) for name in names}

    return files


def spectra_parts(wildcards):
    """The spectra of the parts of a model, from its files or as its weights passed by."""
    if streamed := from_stream("spectra")(wildcards):
        return streamed["spectra"]
    return gather.part("<results>/singular_values_part/{model}/{{scatteritem}}.parquet".format(model=wildcards.model))


def entry_of(name):
    """The entry of a model, or of a tokenizer without one."""
    return config["models"].get(name) or config["tokenizers"][name]


@functools.cache
def parts_of(corpus):
    """The parts of a large local corpus that are counted each by itself: shares of files, by the part's name."""
    return corpus_parts(config["corpora"][corpus])


def shares_of(wildcards):
    return parts_of(wildcards.corpus).get(wildcards.part, [])


def text_of(wildcards):
    """What the tokens of a corpus are counted from: the counts of its parts, or the table of its documents."""
    if not parts_of(wildcards.corpus):
        return {"text": "<results>/corpus/{corpus}.parquet"}
    pattern = "<results>/token_counts_part/{{model}}/{{corpus}}/{part}.{end}.parquet"
    return {f"part_{end}": expand(pattern, part=parts_of(wildcards.corpus), end=end) for end in ("sizes", "tokens")}


def tokenizer_of(wildcards):
    """What the tokenizer that counts is read from."""
    if wildcards.model in config["tokenizers"]:
        return {"tokenizer": f"<results>/fetch_tokenizer/{wildcards.model}.json"}
    return {
        "checkpoint": f"<results>/checkpoints/{wildcards.model}.json",
        "tensor_inventory": f"<results>/tensor_inventory/{wildcards.model}.parquet",
    }


def of_checkpoints(analysis, pattern):
    """For `input:`, a pattern filled for every model of a series that has an analysis."""
    return lambda wildcards: [
        pattern.format(model=model)
        for model in runs.models(wildcards.series)
        if analysis in selection.analyses_of(model)
    ]


def checkpoints_before(wildcards):
    """The checkpoint before a later one of a series, and the first one, by the names of inputs."""
    files = {"checkpoint": "checkpoints/{model}.json", "inventory": "tensor_inventory/{model}.parquet"}
    return {
        f"{other}_{name}": f"<results>/{file}".format(model=model)
        for other, model in runs.before(wildcards.series, wildcards.model).items()
        for name, file in files.items()
    }


def evaluations(pattern):
    """For `input:`, a pattern filled for every task on which an ablation is evaluated that a model's analyses ask for."""
    return lambda wildcards: [
        pattern.format(ablation=ablation, task=task)
        for ablation, task in choices.evaluations(wildcards.model, selection.analyses_of(wildcards.model))
    ]


def window_scores(pattern):
    """For `input:`, a pattern filled for every corpus on which such an ablation's perplexity is measured."""
    return lambda wildcards: [
        pattern.format(ablation=ablation, corpus=corpus)
        for ablation in choices.compared(selection.analyses_of(wildcards.model))
        for corpus in choices.corpora
    ]


def spared_weights(wildcards):
    """The super weights that a recipe spares, of models that they are looked for in."""
    found = "super_weights" in selection.analyses_of(wildcards.model)
    return {"super_weights": "<results>/super_weights/{model}.json"} if found else {}


def vector_files(files):
    """For `input:`, the user's files of a vector that Snakemake can watch. files: a method of `vectors`."""
    return lambda wildcards: own_files(files(wildcards.vector))


def vector_states(files):
    """For step(), what shows that a user's files of a vector are others than before. files: a method of `vectors`."""
    return lambda wildcards: states_of(files(wildcards.vector))


def vector_options(section):
    """For `params: options=`: the keys of a class of settings, by the vector's entry."""
    return lambda wildcards: vectors.options(wildcards.vector, section)
