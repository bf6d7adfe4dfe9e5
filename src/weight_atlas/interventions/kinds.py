"""The kinds of interventions: what each does to a model. Light: the workflow reads it before anything is loaded."""

from dataclasses import dataclass

# Any index: whole rows, columns and heads, and matrices that their role names, are changed alike.
SOME = ("some",)
# The index of a neuron of an MLP: a column of W_down, a row of the matrices that lead into it.
NEURON = ("neuron",)
INTO_NEURONS = ("W_gate", "W_up")


@dataclass(frozen=True)
class Kind:
    """A kind of intervention.

    does: its effect on the weights in question. needs: indices that the coordinate of each of them must have, or SOME,
    or NEURON. control: whether other weights are changed instead, or none, for comparison.
    """

    does: str
    needs: tuple[str, ...] = ("row", "col")
    control: bool = False


BASELINE = "baseline"
KINDS = {
    BASELINE: Kind("the model as it is", needs=(), control=True),
    "zero": Kind("all weights set to zero", needs=SOME),
    "each": Kind("one weight, row, column or head set to zero", needs=SOME),
    "scale": Kind("all weights multiplied by a factor", needs=SOME),
    "neurons": Kind("the neurons of all weights, whole columns, set to zero", needs=NEURON),
    "restore": Kind("all weights set to zero, the massive activations that they make kept"),
    "experts": Kind("the experts of all weights set to zero", needs=()),
    "super_experts": Kind("the super experts, those with the largest outputs, set to zero", needs=()),
    "random_experts": Kind("as many random experts of the same layers set to zero", needs=(), control=True),
    "random": Kind("random weights of the same matrices, nearest in size, set to zero", needs=SOME, control=True),
    "largest": Kind("the largest other weights of every matrix set to zero", control=True),
    "quantize": Kind("all matrices of the layers, or their inputs, quantized, the weights spared or not"),
    "recipe": Kind("every unit of a recipe rounded to the type that it gives it", needs=()),
    "uniform": Kind("every unit of a recipe rounded to one type", needs=(), control=True),
    "token_rows": Kind("the embedding's rows of the tokens of lowest weight set to zero", needs=()),
    "random_tokens": Kind("the embedding's rows of as many random tokens set to zero", needs=(), control=True),
    "screened": Kind("a promising weight, row or column set to zero", needs=()),
    "set": Kind("some weights of one row or column set to zero"),
    "single": Kind("one candidate set to zero"),
    "joint": Kind("all candidates set to zero"),
    "kept": Kind("all candidates but one, and what it works through, set to zero"),
    "neuron": Kind("the neuron of one candidate, a whole column, set to zero"),
    "row": Kind("the row of one candidate set to zero"),
    "column": Kind("the column of one candidate set to zero"),
    "shifted": Kind("a candidate's change made at a random place of its matrix", control=True),
    "random_together": Kind("a random weight for each candidate set to zero, all at once", control=True),
    "shifted_together": Kind("each candidate's change made at a random place, all at once", control=True),
    "natural": Kind("one weight of an expert set to zero, under the model's own routing"),
    "forced": Kind("every token sent to one expert", control=True),
    "forced_zero": Kind("every token sent to one expert, one weight of which is set to zero"),
    "edit": Kind("one target multiplied by a factor"),
    "neuron_zero": Kind("the neuron of one target, a whole column, set to zero"),
    "mean_contribution": Kind("one target's contribution replaced by its mean"),
    "no_op": Kind("one target multiplied by one", control=True),
    "random_coord": Kind("a random weight of the target's matrix, nearest in size, multiplied alike", control=True),
    "random_shift": Kind("any weight of the target's matrix, changed by the same amount", control=True),
}
# Of an ablation in the configuration, in the order of its variants.
ABLATIONS = (
    "zero",
    "each",
    "scale",
    "neurons",
    "restore",
    "experts",
    "super_experts",
    "random",
    "largest",
    "quantize",
    "token_rows",
)
# Of a target of the vocabulary's analyses, in the order of their table.
VOCABULARY = ("edit", "neuron_zero", "mean_contribution", "no_op", "random_coord", "random_shift")
