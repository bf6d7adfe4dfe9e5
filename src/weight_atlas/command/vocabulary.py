"""`weight-atlas vocabulary`: what neurons and super weights do to the words that a model predicts."""

from typing import Annotated

from cyclopts import Group, Parameter

from weight_atlas.command.corpora import corpus_named
from weight_atlas.command.detection import ANY, Detection
from weight_atlas.command.options import DEFAULTS, Models, Options
from weight_atlas.command.project import Project
from weight_atlas.command.results import Extract, extract
from weight_atlas.command.scan import show

TEXT = Group("Text", sort_key=1)
WHAT = Group("What is measured", sort_key=2)
_CARDS = ("neuron_labels", "neuron_effects", "super_weight_cards")


def vocabulary(
    models: Models,
    *,
    dataset: Annotated[
        str | None, Parameter(group=TEXT, help="Text: wikitext-2, hf:organisation/data-set, files, or a corpus's name.")
    ] = None,
    tokens: Annotated[int | None, Parameter(group=TEXT, help="Tokens of it to use.")] = None,
    window_len: Annotated[int | None, Parameter(group=TEXT, help="Tokens in a window.")] = None,
    stride: Annotated[int | None, Parameter(group=TEXT, help="New tokens from one window to the next.")] = None,
    drop_first_token: Annotated[
        bool, Parameter(negative=(), group=TEXT, help="Do not score a window's first token.")
    ] = False,
    enable_cascade: Annotated[
        bool, Parameter(negative=(), group=WHAT, help="How each intervention travels through the layers above it.")
    ] = False,
    enable_cosine: Annotated[
        bool, Parameter(negative=(), group=WHAT, help="Moments of cosines too: always measured.")
    ] = False,
    enable_enrichment: Annotated[
        bool, Parameter(negative=(), group=WHAT, help="Enrichment of classes of tokens: always measured.")
    ] = False,
    bootstrap: Annotated[int | None, Parameter(group=WHAT, help="Resamples for intervals; 0: none.")] = None,
    seed: Annotated[int | None, Parameter(group=WHAT, help="Seed of controls and resampling.")] = None,
    detection: Detection = ANY,
    options: Options = DEFAULTS,
) -> None:
    """Measure what every neuron and each super weight does to the vocabulary: words, loss, entropy, layers above.

    Numbers that are given here are written to weight-atlas.yaml, which holds them for the next time.

    ```
    weight-atlas vocabulary bundled:demo --tokens 4096 --window-len 256
    weight-atlas vocabulary allenai/OLMo-1B-0724-hf --dataset wikitext-2 --tokens 30000 --window-len 1024 \\
        --stride 512 --drop-first-token --enable-cascade --bootstrap 500 --output-dir ./vocab_runs
    ```
    """
    keys = {
        "windows.tokens": tokens,
        "windows.window_len": window_len,
        "windows.stride": stride,
        "windows.drop_first_token": drop_first_token or None,
        "super_weight_cards.bootstrap": bootstrap,
        "super_weight_cards.seed": seed,
        "interventions.seed": seed,
        **detection.keys,
    }

    def prepare(project: Project) -> None:
        if dataset is not None:
            project.set_key("windows.corpus", corpus_named(project, dataset))
        project.set_keys(keys)

    analyses = [*_CARDS, *(["cascade"] if enable_cascade else [])]
    show(models, analyses, options, prepare=prepare, more=_cards, judged=False)


def _cards(project: Project, name: str) -> list[Extract]:
    weights = ["layer", "row", "col", "delta_loss", "null_ratio_loss", "delta_entropy", "cascade_label"]
    neurons = ["layer", "neuron", "label", "kurt", "skew"]
    return [
        *extract(project, "Super weights", f"super_weight_cards/{name}/super_weights.csv", weights),
        *extract(project, "Neurons", f"neuron_effects/{name}/neurons.csv", neurons),
    ]
