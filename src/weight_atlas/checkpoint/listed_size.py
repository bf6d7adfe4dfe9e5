"""How many bytes a hub model's files have, from the hub's list of them: nothing is downloaded."""

from weight_atlas.checkpoint.hub import explaining
from weight_atlas.checkpoint.listing import list_files
from weight_atlas.checkpoint.repository_info import repository_info
from weight_atlas.checkpoint.source import HubSource


def listed_bytes(source: HubSource, revision: str | None) -> int:
    """Bytes of the files that a download would bring, from one request; AtlasError where the hub does not answer.

    0 for other hubs than Hugging Face.
    """
    if source.scheme != "hf":
        return 0
    with explaining(source.text):
        info = repository_info(source, revision, patience=20)
    sizes = {
        file.rfilename: int((file.lfs.size if file.lfs else file.size) or 0)
        for file in info.siblings or []
        if "/" not in file.rfilename
    }

    def shards(index: str) -> list[str]:
        """By their names, which begin and end as the index's: the index itself is not here."""
        first, last = index.split(".")[:2]
        return [name for name in sizes if name.startswith(first) and name.endswith(f".{last}")]

    listing = list_files(sizes, where=source.text, shards_in=shards, chosen=source.file, code=())
    return sum(sizes[name] for name in listing.names)
