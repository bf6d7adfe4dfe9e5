"""What analyses leave, for the pages, findings and series that are made of it: lookups in the rules.

Required: config, selection, pairs, vectors.
Produces: nothing.
"""

from weight_atlas.findings.rules import files as files_of_findings


def rule_of(analysis):
    return getattr(rules, MADE_WITH.get(analysis, analysis))


@functools.cache
def outputs_of(analysis):
    """What the rule of an analysis writes into the folder that is named like the analysis."""
    folder = f"{config['pathvars']['results']}/{analysis}"
    return [path for path in patterns_of(rule_of(analysis).output) if path.startswith(f"{folder}/")]


@functools.cache
def products_of(model):
    """All outputs of a model's analyses."""
    names = {"corpus": list(config["corpora"]), "recipe": list(config["recipes"])}
    patterns = [pattern for name in selection.analyses_of(model) for pattern in outputs_of(name)]
    return sorted({path for pattern in patterns for path in expand(pattern, model=model, **names)})


def tables_of(model):
    """The tables and JSON files of a model's analyses."""
    return [path for path in products_of(model) if path.endswith((".csv", ".json", ".parquet"))]


def steps_of_pair(pair):
    """The steps whose products a pair's page shows: super weights are compared where those of both are verified."""
    verified = "super_weight_verification" in pairs.shared(pair, selection.analyses_of)
    return ["comparison", "side_by_side", *(["super_weight_inheritance"] if verified else [])]


def products_of_pair(pair):
    return [path for name in steps_of_pair(pair) for path in expand(written_by(name), pair=pair)]


def of_a_model(pattern):
    return isinstance(pattern, str) and re.findall(r"{(\w+)", pattern) == ["model"]


def judged_products_of(model):
    """What the findings of a model are made of: of its analyses the tables that rules of findings read, also such as
    these analyses read themselves, or are made with them, and the JSON files, which may state findings.
    """
    patterns = {pattern for name in selection.analyses_of(model) for pattern in patterns_of(rule_of(name).input)}
    outputs = [patterns_of(rule.output) for rule in workflow.rules]
    beside = {pattern for made in outputs if patterns & {*made} for pattern in made}
    read = {pattern.format(model=model) for pattern in {*patterns, *beside} if of_a_model(pattern)}
    made = products_of(model)
    tables = {f"{config['pathvars']['results']}/{file}".format(model=model) for file in files_of_findings()}
    return sorted(tables & {*made, *read} | {path for path in made if path.endswith(".json")})


# What the cards of a model's page are drawn from, if its analyses have it made.
CARDS = {
    "checkpoint": "<results>/checkpoints/{model}.json",
    **{
        name: f"<results>/{name}/{{model}}.parquet"
        for name in ("tensor_inventory", "value_histogram", "weight_profile", "singular_values", "attention_kernel")
    },
}


def cards_of(model):
    read = {path for name in selection.analyses_of(model) for path in patterns_of(rule_of(name).input)}
    results = config["pathvars"]["results"]
    made = [name for name, path in CARDS.items() if path.replace("<results>", results) in read]
    return {name: CARDS[name] for name in ("checkpoint", "tensor_inventory", *made)}


def products_of_vector(vector):
    """All outputs of the steps that a vector of token weights has."""
    patterns = [pattern for name in vectors.products_of(vector) for pattern in written_by(name)]
    return sorted(path for pattern in patterns for path in expand(pattern, vector=vector))
