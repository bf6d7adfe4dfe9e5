"""The commands on token weights and counts: they print the statistics and write what their names say."""

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

RANDOM = np.random.default_rng(0)
V = 300
COUNTS = (RANDOM.zipf(1.5, V) - 1).astype(np.int64)
WEIGHTS = (1 + RANDOM.normal(size=V)).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A checkpoint, counts and a tokenizer whose tokens would like to be markup or to control a terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    state = {"token_weights": torch.tensor(WEIGHTS)[:, None], "embeddings": torch.zeros(V, 9)}
    torch.save({"epoch": 1, "model_state_dict": state}, tmp_path / "X.pt")
    np.save(tmp_path / "counts.npy", COUNTS[:, None])
    highest = int(WEIGHTS.argmax())
    words = {f"w{number}": number for number in range(V) if number != highest} | {"[red]\x1b[31m\u202e": highest}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.fixture
def command(monkeypatch, capsys):
    from weight_atlas.command import main

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["weight-atlas", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return 1 if isinstance(end.code, str) else end.code or 0, capsys.readouterr().out, str(end.code)
        return 0, capsys.readouterr().out, ""

    return run


def test_weight_cdf(folder, command):
    code, out, _ = command("weight-cdf", "--checkpoint", folder / "X.pt", "--output", folder / "cdf.png")
    assert code == 0 and (folder / "cdf.png").stat().st_size > 5000
    for value in (WEIGHTS.astype(float).mean(), np.percentile(WEIGHTS.astype(float), 95), WEIGHTS.max()):
        assert f"{value:.6g}" in out
    assert "no learning" in out


def test_masked_tokens_are_apart_and_tokens_without_texts_are_ids(folder, command):
    kept = np.arange(V) % 3 > 0
    weights = WEIGHTS.astype(float) * kept
    torch.save({"token_weights": torch.tensor(weights), "token_mask": torch.tensor(kept)}, folder / "masked.pt")
    files = (
        "--checkpoint",
        folder / "masked.pt",
        "--token-counts",
        folder / "counts.npy",
        "--output-dir",
        folder / "o",
    )
    code, out, _ = command("weight-analysis", *files, "--mask-key", "token_mask")
    (means,) = [
        line for line in out.splitlines() if " mean " in line and "magnitude" not in line and "count" not in line
    ]
    assert code == 0 and f"{weights.mean():.6g}" in means and f"{weights[kept].mean():.6g}" in means
    assert str(np.where(kept, weights, -np.inf).argmax()) in out and "''" not in out


def test_token_count_cdf(folder, command):
    code, out, _ = command("token-count-cdf", "--counts", folder / "counts.npy", "--output", folder / "c.png")
    assert code == 0 and (folder / "c.png").is_file()
    assert f"{COUNTS.sum():,}" in out and f"{(COUNTS < 10).sum():,} ({(COUNTS < 10).mean():.2%})" in out


def test_weight_analysis(folder, command):
    files = ("--checkpoint", folder / "X.pt", "--token-counts", folder / "counts.npy", "--output-dir", folder / "out")
    code, out, _ = command("weight-analysis", *files, "--threshold", 5, "--tokenizer", folder / "tokenizer.json")
    assert code == 0 and (folder / "out/token_weight_frequency_analysis.png").is_file()
    np.testing.assert_array_equal(np.load(folder / "out/token_mask.npy"), COUNTS >= 5)
    text = (folder / "out/token_filtering_recommendations.txt").read_text()
    assert f"tokens to mask: {(COUNTS < 5).sum():,}" in text
    table = pd.read_csv(folder / "out/recommendations.csv")
    assert table["threshold"].tolist() == [1, 5, 10, 50, 100]
    assert "\x1b" not in out and "\u202e" not in out and r"'[red]\x1b[31m\u202e'" in out


def test_count_tokens_and_mask(folder, command):
    (folder / "a.txt").write_text("w1 w2 w2 unknown")
    (folder / "b.jsonl").write_text('{"body": "w2 w299"}\n')
    arguments = ("--tokenizer", folder / "tokenizer.json", "--output", folder / "n.npy")
    assert command("count-tokens", folder / "a.txt", *arguments)[0] == 0
    counted = np.load(folder / "n.npy")
    assert counted.shape == (V,) and {place: int(counted[place]) for place in np.flatnonzero(counted)} == {
        0: 1,
        1: 1,
        2: 2,
    }
    assert command("count-tokens", folder / "b.jsonl", *arguments, "--column", "body")[0] == 0
    assert np.load(folder / "n.npy")[[2, 299]].tolist() == [1, 1]
    code, out, _ = command(
        "token-mask", "--counts", folder / "counts.npy", "--threshold", 7, "--output", folder / "m.npy"
    )
    keep = np.load(folder / "m.npy")
    assert code == 0 and keep.dtype == bool and (keep == (COUNTS >= 7)).all()
    assert f"{COUNTS[keep].sum():,}" in out and f"{COUNTS[~keep].sum():,}" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("weight-cdf", "--checkpoint", "absent.pt", "--output", "c.png"), "the file does not exist"),
        (("weight-cdf", "--checkpoint", "X.pt", "--output", "c.doc"), "not the name of a picture"),
        (("weight-cdf", "--checkpoint", "X.pt", "--output", "c.png", "--key", "tokn_weights"), "did you mean"),
        (("token-mask", "--counts", "counts.npy", "--output", "m.npy", "--threshold", "0"), "threshold"),
        (("token-mask", "--counts", "counts.npy", "--output", "m.txt"), "the output is a .npy file"),
        (("count-tokens", "--tokenizer", "tokenizer.json", "--output", "n.npy"), "no texts to count"),
        (("token-count-cdf", "--counts", "tokenizer.json", "--output", "c.png"), "not a file of tensors"),
        (("token-count-cdf", "--counts", "wrapped.npy", "--output", "c.png"), "counts that add up to 5.53e+21"),
        (("token-count-cdf", "--counts", "counts.npy", "--output", "folder.png"), "a folder has the name"),
        (("token-mask", "--counts", "counts.npy", "--output", "a.txt/m.npy"), "a file has the name of a folder"),
        (("weight-cdf", "--checkpoint", "empty.npy", "--output", "c.png"), "there are no weights"),
        (("weight-cdf", "--checkpoint", "list.pt", "--output", "c.png"), "no tensors by name"),
        (("count-tokens", "a.txt", "--tokenizer", "", "--output", "n.npy"), "source"),
        (("count-tokens", "none.csv", "--tokenizer", "tokenizer.json", "--output", "n.npy"), "the corpus has no text"),
        (("count-tokens", "a.txt", "--tokenizer", "unknown.json", "--output", "n.npy"), "cannot encode a text: Word"),
        (("count-tokens", "a.txt", "--tokenizer", "nothing.json", "--output", "n.npy"), "cannot encode a text: Word"),
    ],
)
def test_what_is_wrong_is_one_message(folder, command, monkeypatch, arguments, said):
    monkeypatch.chdir(folder)
    (folder / "folder.png").mkdir()
    (folder / "a.txt").write_text("w1 x")
    (folder / "none.csv").write_text("text\n")
    np.save(folder / "empty.npy", np.zeros(0))
    np.save(folder / "wrapped.npy", np.full(V, 2**64 - 1, np.uint64))
    torch.save([torch.ones(V)], folder / "list.pt")
    for name, words in (("unknown", {"w1": 0}), ("nothing", {})):
        tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
        tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.save(str(folder / f"{name}.json"))
    code, _, wrong = command(*arguments)
    assert code == 1 and said in wrong and "what to do" in wrong
