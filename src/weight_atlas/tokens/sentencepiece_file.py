"""A SentencePiece model file as a tokenizer: as much of transformers' interface as counting needs."""

from pathlib import Path


class SentencePieceTokenizer:
    """The tokenizer of a .model file; ids are those of the file. It has no special tokens besides its own."""

    def __init__(self, file: Path) -> None:
        import sentencepiece

        self._processor = sentencepiece.SentencePieceProcessor()
        self._processor.LoadFromSerializedProto(file.read_bytes())
        # Now rather than later: a damaged file may have pieces that are no text.
        self._vocabulary = {self._processor.id_to_piece(id): id for id in range(len(self))}

    def __len__(self) -> int:
        return self._processor.vocab_size()

    def encode(self, text: str, add_special_tokens: bool = False) -> list[int]:
        """The ids of a text, without BOS and EOS."""
        if add_special_tokens:
            raise ValueError("a SentencePiece model alone does not say which special tokens stand around a text")
        return self._processor.encode(text, out_type=int, add_bos=False, add_eos=False)

    def get_vocab(self) -> dict[str, int]:
        """The id of each piece, as it is written in the file."""
        return dict(self._vocabulary)

    def batch_decode(self, ids: list[list[int]], clean_up_tokenization_spaces: bool = False) -> list[str]:
        """The text of each list of ids."""
        return [self._processor.decode(each) for each in ids]
