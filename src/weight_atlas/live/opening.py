"""From a checkpoint to a live model and its tokenizer."""

from pathlib import Path
from typing import Any

from weight_atlas.checkpoint.checkpoint import Checkpoint
from weight_atlas.checkpoint.manifest import open_checkpoint
from weight_atlas.live.anatomy import Anatomy, anatomy
from weight_atlas.live.load import load_model
from weight_atlas.live.token_ids import refuse_ids_beyond
from weight_atlas.settings.models import Live
from weight_atlas.tokens.tokenizer import load_tokenizer


def open_live(
    manifest: Path, running: Live, *, device: str = "cpu", attention: str | None = None
) -> tuple[Anatomy, Any]:
    """Load the model that a manifest describes, and the tokenizer beside it; device, attention: see load_model."""
    return live_model(open_checkpoint(manifest), running, device=device, attention=attention)


def live_model(
    checkpoint: Checkpoint, running: Live, *, device: str = "cpu", attention: str | None = None
) -> tuple[Anatomy, Any]:
    """The same for a checkpoint that is open."""
    own_code = running.trust_remote_code
    tokenizer = load_tokenizer(checkpoint.folder, trust_remote_code=own_code)
    model = load_model(checkpoint, device=device, dtype=running.dtype, trust_remote_code=own_code, attention=attention)
    refuse_ids_beyond(model, tokenizer, checkpoint.folder)
    return anatomy(model, checkpoint.family), tokenizer
