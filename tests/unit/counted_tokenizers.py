"""Texts whose tokens are hard to get right, small tokenizers of every kind, and counts of one document at a time."""

import collections
import json

from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from weight_atlas.tokens.distinct import DistinctPieces
from weight_atlas.tokens.expressions import DEEPSEEK_EXPRESSIONS, KNOWN, llama3_expression
from weight_atlas.tokens.plan import Plan
from weight_atlas.tokens.proof import plan_of

# Texts whose borders are hard: contractions, runs of white space, numbers, line ends, joined and combining characters,
# names of special tokens, letters of every case.
TRICKY = [
    "it's we'LL they'Re x'sy 'tis ''s 's'd I'M x'ſ 'ſ 'KE",
    "a  b   c\t\td \t e\n\nf \n g\r\nh  \n\n  i\r\n\r\n \r\n",
    "  leading and trailing  ",
    "1234567 12a34 a1b2 1,234.56 x=1;y=22 3'd ٣٤٥٦ ²³½ 1e٣",
    "(a) ((b)) .c -d --e_f __g__ $h #i @j /k/\n.l\n\n..m\n//n /\n/ \n",
    "cafe\u0301 naïve ﬁ ǆ Å Ω \u212b A\u030a 1\u0301 .\u0301 \u0301 e\u0323\u0301 \u0958 \u1100\u1161\u11a8 각 \u037e",
    "日本語 text 中文，标点。カタカナー゠・x ゛゜ 漢字123字 русский текст αβγ ΑΒΓ 한국어",
    "😀😀 a😀b 👩‍👩‍👧 \u200b zero \u00a0 nbsp \u00a0\u00a0x \u3000y \x0b\x0cz \x1f \x85 \x00a \x01\x02b",
    "<|end|> in the middle<|end|>and <bos> <|end| not [CLS] a[SEP]b<s></s>\n\n\n<s> <mask>x",
    "def f(x):\n    return x  # comment\n\n\n\tif x:\n\t\tpass\n",
    "ǅabc ABCdef XMLHttpRequest ʰʰA aʰB ÀÉ éÀ iPhone McDONALD's HTTP's a\u0301B A\u0301b",
    "▁▁ a▁b ▁ ▁x <0x0A>\ufeff\ufffd",
    "\U0001f1e9\U0001f1ea 🏴\U000e0067\U000e0062\U000e007f \U00050000 \U0010ffff \ue000",
    "x" * 300 + " " * 200 + "\n" * 40 + "=" * 90 + "ab" * 200,
    "",
    "\n",
    " ",
]
PIECES = [*"'sSDab1 \t\n.(/_éſ²AǅʰカアK日゛▁😀", *"\u0301\u0323\u00a0\u2028\u212a\x00\x0b\x85\ue000\U00050000"]
PIECES += ["ll", "22", "  ", "\r\n", "<|end|>", "<|", "<s>", "word", " the", "ABc", "[SEP]", "<mask>", "é\n"]
TEXT = st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=24).map("".join)
TEXT = TEXT.filter(lambda text: not any("\ud800" <= character <= "\udfff" for character in text))


def splitting_by(*expressions: str):
    splits = [pre_tokenizers.Split(Regex(each), "isolated") for each in expressions]
    return pre_tokenizers.Sequence([*splits, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def trained(pre_tokenizer, texts, normalizer=None, ignore_merges=False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken("<|end|>", normalized=False), AddedToken("<mask>", lstrip=True, normalized=False)])
    return tokenizer


def of_characters(texts, *, prepend: bool) -> Tokenizer:
    """Like Llama 2's (prepend) or Gemma's: BPE on whole texts, spaces as ▁, bytes for what is not known."""
    replace = normalizers.Replace(" ", "▁")
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), replace]) if prepend else replace
    if not prepend:
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    names = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=900, special_tokens=names, max_token_length=12, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = []
    tokenizer = Tokenizer.from_str(json.dumps(state))
    runs = [] if prepend else ["\n" * length for length in range(1, 6)] + ["▁" * length for length in range(2, 5)]
    tokenizer.add_tokens([AddedToken(each, normalized=False) for each in ("<s>", "</s>", "<|end|>", *runs)])
    return tokenizer


def word_pieces(texts) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[UNK]", "[CLS]", "[SEP]", "<|end|>"]
    tokenizer.train_from_iterator(
        texts, trainers.WordPieceTrainer(vocab_size=500, show_progress=False, special_tokens=special)
    )
    return tokenizer


def one_of_every_kind() -> dict[str, Tokenizer]:
    """Tokenizers of every kind that is proven, trained on the tricky texts."""
    texts = [text for text in TRICKY if text] * 3 + [" ".join(PIECES)] * 2
    return {
        "gpt2": trained(pre_tokenizers.ByteLevel(add_prefix_space=False), texts),
        "llama3": trained(splitting_by(llama3_expression(r"\p{N}{1,3}")), texts, ignore_merges=True),
        "qwen": trained(splitting_by(llama3_expression(r"\p{N}")), texts, normalizers.NFC()),
        "o200k": trained(splitting_by(*list(KNOWN)[3]), texts, ignore_merges=True),
        "deepseek": trained(splitting_by(*DEEPSEEK_EXPRESSIONS), texts, normalizers.Sequence([])),
        "llama2": of_characters(texts, prepend=True),
        "gemma": of_characters(texts, prepend=False),
        "bert": word_pieces(texts),
    }


def encode_with(tokenizer):
    return lambda texts: [each.ids for each in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def plan_for(tokenizer: Tokenizer) -> Plan:
    return plan_of(json.loads(tokenizer.to_str()), tokenizer.get_added_tokens_decoder())


def counter_of(tokenizer: Tokenizer) -> DistinctPieces:
    return DistinctPieces(plan_for(tokenizer), encode_with(tokenizer), normalizers.NFC(), size_of(tokenizer))


def size_of(tokenizer: Tokenizer) -> int:
    return max(tokenizer.get_vocab().values()) + 1


def loop(tokenizer: Tokenizer, texts: list[str]) -> dict[int, tuple[int, int]]:
    """Count one document after the other."""
    counts, documents = collections.Counter(), collections.Counter()
    for text in texts:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        counts.update(ids)
        documents.update(set(ids))
    return {id: (counts[id], documents[id]) for id in counts}


def counted(counter: DistinctPieces, texts: list[str]) -> dict[int, tuple[int, int]]:
    tally = counter.count({"": texts})[""]
    return dict(zip(tally.ids.tolist(), zip(tally.counts.tolist(), tally.documents.tolist(), strict=True), strict=True))
