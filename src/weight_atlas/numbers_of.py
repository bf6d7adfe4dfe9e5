"""How many of something, in a sentence: "1 token", "2,000 tokens"."""


def number_of(count: int, one: str, many: str | None = None) -> str:
    """A number with the word for it; many: the word for all numbers but 1, by itself `one` with an s."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
