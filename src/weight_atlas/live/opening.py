"""From a checkpoint to a live model and its tokenizer."""

from pathlib import Path
from typing import Any

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.live.anatomy import Anatomy, anatomy
from weight_atlas.live.load import load_model
from weight_atlas.live.token_ids import refuse_ids_beyond
from weight_atlas.tokens.tokenizer import load_tokenizer


def open_live(
    manifest: Path,
    *,
    trust_remote_code: bool,
    device: str = "cpu",
    dtype: str = "auto",
    attention: str | None = None,
) -> tuple[Anatomy, Any]:
    """Load the model that a manifest describes, and the tokenizer beside it; see load_model for the settings."""
    checkpoint = open_checkpoint(manifest)
    return live_model(checkpoint, trust_remote_code=trust_remote_code, device=device, dtype=dtype, attention=attention)


def live_model(
    checkpoint: Checkpoint,
    *,
    trust_remote_code: bool,
    device: str = "cpu",
    dtype: str = "auto",
    attention: str | None = None,
) -> tuple[Anatomy, Any]:
    """The same for a checkpoint that is open."""
    tokenizer = load_tokenizer(checkpoint.folder, trust_remote_code=trust_remote_code)
    model = load_model(checkpoint, device=device, dtype=dtype, trust_remote_code=trust_remote_code, attention=attention)
    refuse_ids_beyond(model, tokenizer, checkpoint.folder)
    return anatomy(model, checkpoint.family), tokenizer
