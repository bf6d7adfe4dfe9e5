"""Second moment of each input channel of every matrix, over windows of text; also as llama.cpp's imatrix."""

from pathlib import Path

from weight_atlas.artifacts import read_table, write_table
from weight_atlas.errors import NotApplicable
from weight_atlas.not_applicable import write_not_applicable
from weight_atlas.settings.models import Live
from weight_atlas.settings.quantization import InputSecondMoments
from weight_atlas.workflow.step import run_step


def main(
    checkpoint: Path,
    text: Path,
    *,
    table: Path,
    imatrix: Path,
    settings: InputSecondMoments,
    running: Live,
    device: str = "cpu",
) -> None:
    """Write the second moments by the names of the stored tensors, and those that a GGUF file has as an imatrix."""
    from weight_atlas.live.input_moments import input_second_moments
    from weight_atlas.live.load import open_live
    from weight_atlas.live.windows import corpus_windows
    from weight_atlas.quantization.recipes.gguf_names import gguf_names
    from weight_atlas.quantization.recipes.imatrix import write_imatrix

    live, tokenizer = open_live(checkpoint, running, device=device)
    window = min(settings.window, live.context or settings.window)
    windows = corpus_windows(
        read_table(text), tokenizer, window=window, tokens=settings.tokens, limit=live.context, where=text
    )
    moments = input_second_moments(live, windows)
    write_table(table, moments)
    try:
        names = gguf_names(live.model.config.get_text_config().to_dict(), len(live.layers))
        count = write_imatrix(imatrix, moments, names, corpus=text.stem, window=window, windows=len(windows))
    except NotApplicable as error:
        write_not_applicable(imatrix, error.what)
        count = 0
    print(f"{len(moments)} matrices over {len(windows)} windows; {count} of them in the imatrix", flush=True)


if __name__ == "__main__":
    run_step(main, globals())
