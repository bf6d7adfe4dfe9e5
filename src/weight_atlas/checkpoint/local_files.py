"""The local files that a checkpoint or a tokenizer depends on, for the workflow to watch. Every dry run imports it.

Apart from what a `source` means, which steps need as well: they do not depend on what is watched.
"""

import re

from weight_atlas.checkpoint.listing import CODE_PATTERNS, is_index, is_weight_file, side_files, top_files
from weight_atlas.checkpoint.source import HubSource, parse_source
from weight_atlas.file_states import states_of


def local_files(source: str) -> list[str]:
    """Paths of the local files that a source's checkpoint can depend on; [] for the hub or for what is missing.

    A superset of what is read (cheap: nothing is opened), so that an edit of any of them makes the checkpoint stale.
    """
    parsed = parse_source(source)
    if isinstance(parsed, HubSource):
        return []
    names = top_files(parsed.folder)
    kept = set(side_files(names, CODE_PATTERNS))
    if parsed.file is None:
        kept |= {name for name in names if is_weight_file(name) or is_index(name)}
    elif parsed.file in names:
        # The other parts of a numbered set share the name up to the part's number.
        stem = re.sub(r"-\d{5,6}(-of-\d{5,6}\.\w+)$", r"-*\1", parsed.file)
        kept |= {name for name in names if re.fullmatch(re.escape(stem).replace(r"\*", r"\d+"), name)}
    return [(parsed.folder / name).as_posix() for name in sorted(kept)]


def local_state(source: str) -> dict[str, str]:
    """What shows that the checkpoint of a source may be another: see states_of, of local_files(source)."""
    return states_of(local_files(source))


def tokenizer_files(source: str) -> list[str]:
    """Paths of the local files that a tokenizer can depend on; [] for the hub, and for what is not there.

    source: a folder, or one file, which is the tokenizer by itself.
    """
    parsed = parse_source(source)
    if isinstance(parsed, HubSource):
        return []
    if parsed.folder.is_file():
        return [parsed.folder.as_posix()]
    return [(parsed.folder / name).as_posix() for name in side_files(top_files(parsed.folder), CODE_PATTERNS)]
