"""The pages of a model, as Markdown and for a browser, and what it was analysed with: source, commit, settings."""

from pathlib import Path

from weight_atlas.artifacts import read_json, write_json
from weight_atlas.pages.html.sources import Artifacts, changes_against
from weight_atlas.pages.pages import Places, write_page
from weight_atlas.workflow.recorded import read
from weight_atlas.workflow.step import run_step


def main(
    products: list[Path],
    captions: list[Path],
    findings: Path,
    checkpoint: Path,
    tensor_inventory: Path | None = None,
    value_histogram: Path | None = None,
    weight_profile: Path | None = None,
    singular_values: Path | None = None,
    attention_kernel: Path | None = None,
    comparisons: list[Path] | None = None,
    compared: list[Path] | None = None,
    *,
    page: Path,
    browser: Path,
    data: Path,
    summary: Path,
    record: Path,
    model: str,
    configuration: str,
) -> None:
    """Write the page, that for a browser with the folder of its data, and what the overview says of the model.

    products: outputs of the analyses, below the results folder; captions: one .rst an analysis, in the order of the
    sections. findings: of the analyses together. comparisons, compared: tables and summaries of the comparisons with
    other models. The other inputs are what cards are drawn from, where they are made. configuration: as JSON; see
    workflow.run_config.of_model.
    """
    artifacts = Artifacts(
        checkpoint, tensor_inventory, value_histogram, weight_profile, singular_values, attention_kernel
    )
    changed = changes_against(model, comparisons or [], compared or [])
    told = read_json(findings)["findings"]
    commit = read_json(checkpoint)["revision"]
    write_json(record, {"schema": 1, "model": model, **read(configuration), "commit": commit})
    write_page(Places(page, browser, data, summary), model, captions, products, told, artifacts, changed)


if __name__ == "__main__":
    run_step(main, globals())
