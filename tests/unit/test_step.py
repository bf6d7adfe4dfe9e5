"""One main() as a job and as a command line tool."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from settings_of_steps import Own, Phases

from weight_atlas.errors import AtlasError
from weight_atlas.workflow.step import run_step


class Named(dict):
    """Stands in for Snakemake's Namedlist where step.py uses it."""


def job(tmp_path, *, inputs=None, outputs=None, options=None, params=None, wildcards=None, resources=None, threads=1):
    return SimpleNamespace(
        rule="example",
        input=Named(inputs or {}),
        output=Named(outputs or {}),
        params=Named({"options": options or {}, "code": "abc", **(params or {})}),
        wildcards=Named(wildcards or {}),
        resources=resources or {},
        threads=threads,
        log=[],
    )


@pytest.fixture(autouse=True)
def keep_process_settings(monkeypatch):
    monkeypatch.setattr("weight_atlas.workflow.step._die_with_workflow", lambda: None)
    monkeypatch.setattr("weight_atlas.workflow.step._limit_threads", lambda threads: None)


def test_binds_inputs_outputs_options_and_what_main_asks_for(tmp_path):
    seen = {}

    def main(table: Path, *, parts: list[Path], figure: Path, phases: int = 3, model: str, threads: int = 1) -> None:
        seen.update({k: v for k, v in locals().items() if k != "seen"})

    inputs, outputs = {"table": "a.csv", "parts": ["p1", "p2"]}, {"figure": "b.png"}
    wildcards = {"model": "demo", "unused": "x"}
    run_step(
        main,
        {
            "snakemake": job(
                tmp_path, inputs=inputs, outputs=outputs, options={"phases": 5}, wildcards=wildcards, threads=4
            )
        },
    )
    assert seen["table"] == Path("a.csv")
    assert seen["parts"] == [Path("p1"), Path("p2")]
    assert (seen["figure"], seen["phases"], seen["model"], seen["threads"]) == (Path("b.png"), 5, "demo", 4)


def test_a_file_that_a_rule_gives_as_a_list_is_one_or_none(tmp_path):
    seen = []

    def main(table: Path | None = None) -> None:
        seen.append(table)

    for files in (["a.csv"], [], "a.csv"):
        run_step(main, {"snakemake": job(tmp_path, inputs={"table": files})})
    assert seen == [Path("a.csv"), None, Path("a.csv")]
    with pytest.raises(ValueError, match="too many"):
        run_step(main, {"snakemake": job(tmp_path, inputs={"table": ["a.csv", "b.csv"]})})


def test_keys_of_settings_are_names_of_their_own(tmp_path):
    seen = []

    def main(table: Path, *, figure: Path, ranks: Phases, own: Own, model: str) -> None:
        seen.extend([ranks, own, model])

    options = {"phases": 5, "limit": None, "tags": ["a"]}
    given = {"inputs": {"table": "a.csv"}, "outputs": {"figure": "b.png"}, "wildcards": {"model": "demo"}}
    run_step(main, {"snakemake": job(tmp_path, **given, options=options)})
    assert seen == [Phases(phases=5), Own(tags=["a"]), "demo"]
    for wrong in ({"phases": 5, "tags": []}, {**options, "phasse": 1}):
        with pytest.raises(TypeError, match="disagree"):
            run_step(main, {"snakemake": job(tmp_path, **given, options=wrong)})


def test_two_settings_cannot_share_a_key(tmp_path):
    def main(ranks: Phases, *, phases: int) -> None:
        raise AssertionError("must not run")

    with pytest.raises(TypeError, match=r"\['phases'\] twice"):
        run_step(main, {"snakemake": job(tmp_path)})


def test_a_single_file_given_to_a_list_is_a_list(tmp_path):
    seen = []

    def main(parts: list[Path]) -> None:
        seen.extend(parts)

    run_step(main, {"snakemake": job(tmp_path, inputs={"parts": "only"})})
    assert seen == [Path("only")]


@pytest.mark.parametrize("options", [{"phases": 3, "phasse": 4}, {}])
def test_a_name_that_one_side_lacks_is_an_error(tmp_path, options):
    def main(phases: int) -> None:
        raise AssertionError("must not run")

    with pytest.raises(TypeError, match="disagree"):
        run_step(main, {"snakemake": job(tmp_path, options=options)})


def test_an_atlas_error_is_one_message_and_exit_code_1(tmp_path, capfd):
    def main() -> None:
        raise AtlasError("the shard is truncated", where="model.safetensors", remedy="download it again")

    with pytest.raises(SystemExit) as exit_:
        run_step(main, {"snakemake": job(tmp_path)})
    message = capfd.readouterr().err
    assert exit_.value.code == 1
    assert message == "error: the shard is truncated\n  where: model.safetensors\n  what to do: download it again\n"


def test_other_exceptions_keep_their_traceback(tmp_path):
    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_step(main, {"snakemake": job(tmp_path)})


def test_device_is_cpu_without_a_gpu_and_the_log_says_so(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    seen = []

    def main(device: str = "cpu") -> None:
        seen.append(device)

    run_step(main, {"snakemake": job(tmp_path, resources={"gpu": 1})})
    run_step(main, {"snakemake": job(tmp_path, resources={"gpu": 0})})
    assert seen == ["cpu", "cpu"]
    assert capfd.readouterr().out.splitlines() == ["device: cpu (no CUDA device on this machine)"] * 2


def test_what_the_file_system_refuses_is_a_message(capsys):
    def main(*, table: Path) -> None:
        raise PermissionError(13, "Permission denied", str(table))

    with pytest.raises(SystemExit) as end:
        run_step(main, {"snakemake": job(None, outputs={"table": "a.csv"})})
    assert end.value.code == 1
    assert "error: permission denied\n  where: a.csv" in capsys.readouterr().err


def test_a_package_of_an_extra_that_is_not_there_is_named_with_the_extra(tmp_path, capsys):
    def main(*, table: Path) -> None:
        raise ModuleNotFoundError("No module named 'lm_eval'", name="lm_eval.tasks")

    with pytest.raises(SystemExit) as end:
        run_step(main, {"snakemake": job(tmp_path, outputs={"table": "a.csv"})})
    assert end.value.code == 1
    assert "lm_eval is not installed" in (said := capsys.readouterr().err) and '".[eval]"' in said


def test_another_module_that_is_not_there_is_a_defect(tmp_path):
    def main(*, table: Path) -> None:
        raise ModuleNotFoundError("No module named 'pands'", name="pands")

    with pytest.raises(ModuleNotFoundError):
        run_step(main, {"snakemake": job(tmp_path, outputs={"table": "a.csv"})})
