"""The commands on token weights and counts in files, without a configuration and without the workflow.

What they compute is the library's; here it is printed and written.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from weight_atlas.command.screen import print_lines, print_table
from weight_atlas.errors import AtlasError
from weight_atlas.numbers_of import number_of
from weight_atlas.settings.corpora import Corpus
from weight_atlas.settings.token_weights import Frequency

Reduce = Literal["norm", "max", "min", "mean", "absmax", "sum"]
Key = Annotated[str | None, Parameter(help="Dotted name of the tensor in the file; by itself token_weights.")]
ReduceTo = Annotated[Reduce | None, Parameter(help="What is made of a token's row, where the tensor is a table.")]
Counts = Annotated[Path, Parameter(help="Counts by token id: .npy of shape (V,) or (V, 1).")]
# The defaults of the configuration.
THRESHOLD: int = Frequency.model_fields["threshold"].default
COLUMN: str = Corpus.model_fields["column"].default
# Percentiles that the statistics end with.
PERCENTILES = (1, 5, 10, 25, 50, 75, 90, 95, 99)
SHOWN = ("mean", "median", "std", "min", "max", "mean_magnitude", "max_magnitude", "sparsity")


def weight_cdf(*, checkpoint: Path, output: Path, key: Key = None, reduce: ReduceTo = None) -> None:
    """Draw the cumulative distribution of token weights, full range and 5th to 95th percentile; print statistics."""
    from weight_atlas.figures.style import save_figure
    from weight_atlas.figures.weights import value_cdf_panels

    found = _studied(checkpoint, key=key, reduce=reduce)
    _check_picture(output)
    save_figure(output, value_cdf_panels(found.cdf, found.label))
    _print_weights(found)
    _say_written(output)


def token_count_cdf(*, counts: Counts, output: Path) -> None:
    """Draw occurrences so far by frequency rank, rarest token first; print how many tokens are rare."""
    from weight_atlas.figures.style import save_figure
    from weight_atlas.figures.token_weight_frequency import count_cdf
    from weight_atlas.token_weights.beside_counts import counts_in

    table = counts_in(counts)
    _check_picture(output)
    save_figure(output, count_cdf(table))
    _print_counts(table)
    _say_written(output)


def weight_analysis(
    *,
    checkpoint: Path,
    token_counts: Counts,
    output_dir: Path,
    threshold: Annotated[int, Parameter(help="Tokens with fewer occurrences are to be left out.")] = THRESHOLD,
    key: Key = None,
    reduce: ReduceTo = None,
    mask_key: Annotated[str | None, Parameter(help="Dotted name of a mask in the file, true for kept tokens.")] = None,
    initial: Annotated[float | None, Parameter(help="Value that training began with.")] = None,
    tokenizer: Annotated[
        str | None, Parameter(help="Folder, tokenizer.json or hf://organisation/name that says what tokens are.")
    ] = None,
) -> None:
    """Compare token weights with how often the tokens occur: six panels, tables, recommendations and a mask."""
    from weight_atlas.artifacts import write_array, write_table, write_text
    from weight_atlas.figures.style import save_figure
    from weight_atlas.figures.token_weight_frequency import six_panels
    from weight_atlas.token_weights.beside_counts import beside_counts, counts_in
    from weight_atlas.token_weights.recommendations import as_text

    settings = _compared(threshold)
    options = {"key": key, "reduce": reduce, "mask_key": mask_key, "initial": initial}
    found = _studied(checkpoint, tokenizer=tokenizer, **options)
    beside = beside_counts(found.tokens, counts_in(token_counts), settings)
    save_figure(output_dir / "token_weight_frequency_analysis.png", six_panels(beside, threshold))
    write_text(output_dir / "token_filtering_recommendations.txt", as_text(beside.summary, beside.recommendations))
    for name in ("correlations", "bins", "outliers", "divergence", "recommendations", "pruning"):
        write_table(output_dir / f"{name}.csv", getattr(beside, name))
    write_array(output_dir / "token_mask.npy", beside.mask)
    _print_weights(found)
    _print_counts(beside.tokens["count"].to_numpy())
    print_table("Correlation of weight and count", beside.correlations[["tokens", "measure", "value", "chance", "p"]])
    print_table("Recommendations", beside.recommendations)
    print_table(
        f"High weight, fewer than {number_of(threshold, 'occurrence')}", _with_known_texts(beside.outliers.head(10))
    )
    print_lines([beside.summary["reading"]])
    _say_written(output_dir)


def count_tokens(
    *texts: Annotated[str, Parameter(help="Text files, patterns of them, or folders: .txt, .jsonl, .json, .csv, ...")],
    tokenizer: Annotated[str, Parameter(help="Folder, tokenizer.json, or hf://organisation/name.")],
    output: Annotated[Path, Parameter(help="Where to write the counts, (V,) int64: a .npy file.")],
    column: Annotated[str, Parameter(help="Column or key that holds the text.")] = COLUMN,
) -> None:
    """Count every token of some texts exactly: whole documents, no special tokens added."""
    from weight_atlas.artifacts import write_array
    from weight_atlas.tokens.counted_files import count_files

    if not texts:
        raise AtlasError("no texts to count", remedy="name files or folders: weight-atlas count-tokens FILE ...")
    _check_suffix(output, ".npy")
    counts = count_files(list(texts), tokenizer, column)
    write_array(output, counts)
    _print_counts(counts)
    _say_written(output)


def token_mask(
    *,
    counts: Counts,
    output: Annotated[Path, Parameter(help="Where to write the mask, (V,) bool, true for kept tokens: a .npy file.")],
    threshold: Annotated[int, Parameter(help="Least occurrences of a kept token.")] = THRESHOLD,
) -> None:
    """Make the mask of tokens that occur often enough, and print what is masked and what is kept."""
    import pandas as pd

    from weight_atlas.artifacts import write_array
    from weight_atlas.token_weights.beside_counts import counts_in
    from weight_atlas.token_weights.recommendations import masked_and_kept

    _check_suffix(output, ".npy")
    table = counts_in(counts)
    keep = table >= _compared(threshold).threshold
    write_array(output, keep)
    print_table(
        f"Mask of tokens with {number_of(threshold, 'occurrence')} and more", pd.DataFrame(masked_and_kept(table, keep))
    )
    _say_written(output)


def _compared(threshold: int) -> Any:
    from weight_atlas.settings.messages import checked

    return checked(Frequency, {"threshold": threshold}, "command line")


def _studied(checkpoint: Path, *, tokenizer: str | None = None, **options: Any) -> Any:
    """The study of the vector in a file."""
    from weight_atlas.settings.messages import checked
    from weight_atlas.settings.token_weights import Vector
    from weight_atlas.token_weights.study import classes_in, read_vector, study

    settings = checked(Vector, {"source": str(checkpoint), **options}, "command line")
    read = read_vector(settings)
    if not len(read.weights):
        raise AtlasError("there are no weights", where=checkpoint, remedy="name another tensor by --key")
    return study(read, settings, None if tokenizer is None else classes_in(tokenizer))


def _check_picture(path: Path) -> None:
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise AtlasError("not the name of a picture", where=path, remedy="end it with .png, .svg or .pdf")


def _check_suffix(path: Path, suffix: str) -> None:
    if path.suffix != suffix:
        raise AtlasError(f"the output is a {suffix} file", where=path, remedy=f"end it with {suffix}")


def _print_weights(found: Any) -> None:
    import pandas as pd

    columns = {name.replace("_", " "): name for name in SHOWN}
    columns |= {f"percentile {percentile}": f"p{percentile}" for percentile in PERCENTILES}
    by_set = found.statistics.set_index("tokens")
    table = pd.DataFrame({"token weights": [*columns], "value": by_set.loc["all", [*columns.values()]].to_numpy()})
    if "kept" in by_set.index:
        table = table.rename(columns={"value": "all"})
        table["kept"] = by_set.loc["kept", [*columns.values()]].to_numpy()
    print_table(found.summary["weights"], table)
    print_table("Diagnoses", found.diagnoses[["diagnosis", "verdict", "evidence"]])
    for end, part in found.extremes.groupby("end", sort=False):
        print_table(f"Tokens of {end} weight", _with_known_texts(part[["id", "weight", "token"]]))
    print_lines(f"{each['grade']}: {each['text']}" for each in found.summary["findings"])


def _with_known_texts(tokens: Any) -> Any:
    """A table of tokens, without the column of their texts where none is known."""
    return tokens if (tokens["token"] != "").any() else tokens.drop(columns="token")


def _print_counts(counts: Any) -> None:
    import pandas as pd

    from weight_atlas.token_weights.frequency import count_summary_of

    summary = count_summary_of(counts)
    said = {
        "tokens": summary["tokens"],
        "vocabulary": summary["vocabulary"],
        "median count": summary["median_count"],
        "mean count": summary["mean_count"],
    }
    for limit, name in ((1, "never seen"), (10, "fewer than 10"), (100, "fewer than 100")):
        said[name] = f"{summary[f'below_{limit}']:,} ({summary[f'below_{limit}_share']:.2%})"
    print_table("Token counts", pd.DataFrame(said.items(), columns=["tokens", "value"]))


def _say_written(path: Path) -> None:
    print_lines([f"written: {path}"])
