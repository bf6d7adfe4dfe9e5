"""What tokens read like, by the tokenizer.json beside the weights, for tables that name tokens by their ids."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from weight_atlas.tokenizer_limits import check_growth


def with_texts(neighbours: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """A table with token_id and neighbour_id, with the texts of both beside them as token and neighbour."""
    texts = token_texts(folder, pd.unique(pd.concat([neighbours["token_id"], neighbours["neighbour_id"]])).tolist())
    return neighbours.assign(
        token=neighbours["token_id"].map(texts).astype("str"),
        neighbour=neighbours["neighbour_id"].map(texts).astype("str"),
    )


def token_texts(folder: Path, ids: Iterable[int]) -> dict[int, str]:
    """The text of each id, as the tokenizer decodes it alone; the token itself where that is empty; "" for ids that it
    does not know, and for all where there is no tokenizer.json that can be read.
    """
    from tokenizers import Tokenizer

    ids, path = list(ids), Path(folder) / "tokenizer.json"
    if not path.is_file():
        return dict.fromkeys(ids, "")
    try:
        tokenizer = Tokenizer.from_file(str(path))
        check_growth(tokenizer, path)
    except Exception as error:  # the library raises plain exceptions; counting tokens says what is wrong
        print(f"tokens are shown by their ids: {path} cannot be read: {error}", flush=True)
        return dict.fromkeys(ids, "")
    return {
        each: tokenizer.decode([each], skip_special_tokens=False) or tokenizer.id_to_token(each) or "" for each in ids
    }
