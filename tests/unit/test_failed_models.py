"""Which models failed and why, as the end of a failed run tells it."""

from types import SimpleNamespace

from weight_atlas.pages.failed_models import MOST, failures_told


class Wildcards(dict):
    """Of a job of Snakemake."""


def job(folder, rule: str, log: str | None, **wildcards: str) -> SimpleNamespace:
    path = folder / f"{rule}-{'-'.join(wildcards.values())}.log"
    if log is not None:
        path.write_text(log)
    return SimpleNamespace(rule=SimpleNamespace(name=rule), wildcards=Wildcards(wildcards), log=[str(path)])


def test_models_are_counted_and_each_failure_has_its_words(tmp_path):
    log = "versions: x\nreading\nerror: no weights here\n  where: /m\n  what to do: point `source` elsewhere\n"
    bad = job(tmp_path, "tensor_inventory", log, model="b")
    worse = job(tmp_path, "ablation_eval", None, model="a", task="copy")
    shared = job(tmp_path, "corpus", "error: no \x1b[31mtext\n", corpus="c")
    good = [job(tmp_path, "sparsity", "fine", model=name) for name in ("a", "b", "c")]
    said = failures_told(SimpleNamespace(jobs=[*good, bad, worse, shared]), [bad, worse, shared])
    lines = said.splitlines()
    assert lines[0] == "Steps failed of 2 of 3 models:"
    assert lines[1:3] == [
        "    a: ablation_eval copy: it left no log",
        "    b: tensor_inventory: no weights here; where: /m; what to do: point `source` elsewhere",
    ]
    assert lines[3].startswith("    (all): corpus c: no \\x1b[31mtext") and "goes on where it stopped" in lines[-1]


def test_hundreds_of_failures_end(tmp_path):
    jobs = [job(tmp_path, "corpus", "error: " + "x" * 5000, model=f"m{number}") for number in range(200)]
    said = failures_told(SimpleNamespace(jobs=jobs), jobs)
    assert "Steps failed of 200 of 200 models" in said and f"and {200 - MOST} more" in said and len(said) < 20_000
