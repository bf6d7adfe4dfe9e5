"""Models in a table beside the configuration: the same entries as YAML would give, and what is wrong by its line."""

import pytest

from weight_atlas.errors import AtlasError
from weight_atlas.workflow.configuration import configured

DEMO = "bundled:demo"


def table_of(tmp_path, text: str) -> dict:
    (tmp_path / "models.tsv").write_text(text)
    return {"models_table": str(tmp_path / "models.tsv")}


def test_rows_are_the_entries_that_yaml_would_have(tmp_path):
    text = (
        "# of the study\n"
        "name\tsource\tanalyses\tallow_other\trevision\tsuper_weights.spike_threshold\teffort\n"
        "\n"
        "2024\thf://org/name\teffective_rank, sparsity\ttrue\t0012345\t4.5\tquick\n"
        f"plain\t{DEMO}\n"
    )
    written = {
        "models": {
            "mine": {"source": DEMO},
            "2024": {
                "source": "hf://org/name", "analyses": ["effective_rank", "sparsity"], "allow_other": True,
                "revision": "0012345", "super_weights": {"spike_threshold": 4.5}, "effort": "quick",
            },
            "plain": {"source": DEMO},
        }
    }  # fmt: skip
    given = table_of(tmp_path, text) | {"models": {"mine": {"source": DEMO}}}
    found, expected = configured(given, "c.yaml"), configured(written, "c.yaml")
    assert found["models"] == expected["models"] and list(found["models"]) == list(expected["models"])


def test_members_of_a_series_and_pairs_may_be_rows(tmp_path):
    given = table_of(tmp_path, f"name\tsource\nstep1\t{DEMO}\nstep2\t{DEMO}\n")
    found = configured(given | {"series": {"run": ["step2", "step1"]}}, "c.yaml")
    assert found["series"]["run"]["models"] == ["step1", "step2"]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["table of models is empty", "the first line names the columns"]),
        ("source\nx\n", ["no column 'name'", "line 1"]),
        ("name\tname\n", ["'name' stands twice", "line 1"]),
        (f"name\tsource\n#\na\t{DEMO}\n\na\t{DEMO}\n", ["'a' is there already", "line 3", "line 5"]),
        (f"name\tsource\nmine\t{DEMO}\n", ["'mine' is there already: c.yaml", "line 2"]),
        (f"name\tsource\n\t{DEMO}\n", ["a model without a name", "line 2"]),
        ("name\tsource\na\n", ["the key 'source' is missing", "line 2"]),
        (f"name\tsource\na\t{DEMO}\tx\n", ["3 cells for 2 columns", "line 2"]),
        (f"name\tsource\tdtyp\na\t{DEMO}\tx\n", ["unknown key 'dtyp'", "did you mean 'dtype'?", "line 2"]),
        (f"name\tsource\tdtype\na\t{DEMO}\tf99\n", ["not 'f99'", "'bfloat16'", "line 2"]),
        (f"name\tsource\tanalyses\na\t{DEMO}\tx,\n", ["not 'x'", "line 2"]),
        (f"name\tsource\twindows.tokens\na\t{DEMO}\tmany\n", ["windows.tokens", "not 'many'", "line 2"]),
        (f"name\tsource\n../a\t{DEMO}\n", ["'../a' cannot be a name", "line 2"]),
        (f'name\tsource\n"a"\t{DEMO}\n', ["cannot be a name", "line 2"]),
    ],
)
def test_what_is_wrong_is_said_by_its_line(tmp_path, text, parts):
    with pytest.raises(AtlasError) as caught:
        configured(table_of(tmp_path, text) | {"models": {"mine": {"source": DEMO}}}, "c.yaml")
    assert not [part for part in [*parts, "models.tsv"] if part not in str(caught.value)], str(caught.value)
    assert caught.value.remedy


def test_tables_that_cannot_be_read(tmp_path):
    for content, said in ((None, "No such file"), (b"name\tsource\n\xff\tx\n", "not UTF-8")):
        path = tmp_path / "other.tsv"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(AtlasError, match=said) as caught:
            configured({"models_table": str(path)}, "c.yaml")
        assert caught.value.where == path and caught.value.remedy
