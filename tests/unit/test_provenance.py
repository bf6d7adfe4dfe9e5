"""The digest changes with every piece of code a script can reach, and with nothing else."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from weight_atlas.workflow import provenance
from weight_atlas.workflow.parsed_code import ParsedCode

ROOT = Path(__file__).parents[2]


@pytest.fixture
def project(tmp_path):
    files = {
        "scripts/step.py": '"""Doc."""\nfrom lib.mid import g\n\ng()\n',
        "src/lib/__init__.py": "",
        "src/lib/mid.py": "def g():\n    from lib.deep import f\n    return f()\n",
        "src/lib/deep.py": 'import lib.tables\n\n\ndef f():\n    """One."""\n    return 1\n',
        "src/lib/tables/__init__.py": "",
        "src/lib/tables/rows.yaml": "a: 1\n",
        "src/lib/other.py": "x = 1\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def digest(project):
    for cached in (provenance._direct_dependencies, provenance._imports_and_digest, provenance._module_files):
        cached.cache_clear()
    return provenance.code_digest(project / "scripts/step.py", project / "src/lib")


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("scripts/step.py", "g()\n", "g(), g()\n"),
        ("src/lib/mid.py", "return f()", "return f() + 1"),
        ("src/lib/deep.py", "return 1", "return 2"),
        ("src/lib/tables/rows.yaml", "a: 1", "a: 2"),
        ("src/lib/__init__.py", "", "y = 1\n"),
    ],
)
def test_reachable_changes_count(project, file, old, new):
    before = digest(project)
    path = project / file
    path.write_text(path.read_text().replace(old, new, 1))
    assert digest(project) != before


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("src/lib/other.py", "x = 2\n"),
        ("src/lib/deep.py", '# why\nimport lib.tables\n\n\ndef f():\n    """Two."""\n    return 1\n'),
    ],
)
def test_comments_docstrings_and_strangers_do_not(project, file, text):
    before = digest(project)
    (project / file).write_text(text)
    assert digest(project) == before


@pytest.mark.parametrize(
    "statement",
    [
        "try:\n    x = 1\nexcept ImportError:\n    import lib.other\n",
        "try:\n    x = 1\nfinally:\n    import lib.other\n",
        "for x in ():\n    pass\nelse:\n    import lib.other\n",
        "match 1:\n    case 1:\n        import lib.other\n",
        "class A:\n    async def f():\n        with open('x'):\n            from lib import other\n",
    ],
)
def test_imports_count_wherever_they_stand(project, statement):
    (project / "src/lib/mid.py").write_text(statement)
    before = digest(project)
    (project / "src/lib/other.py").write_text("x = 2\n")
    assert digest(project) != before


def test_settings_count_by_their_values_alone(project):
    """A new default or description is no reason to run a step again; its value is, where the step is given it."""
    settings = project / "src/lib/settings/ranks.py"
    settings.parent.mkdir()
    settings.with_name("__init__.py").write_text("")
    (project / "scripts/step.py").write_text("from lib.mid import g\nfrom lib.settings.ranks import PHASES\n")
    settings.write_text("from lib.other import x\nPHASES = 3\n")
    before = digest(project)
    settings.write_text("from lib.other import x\nPHASES = 4\n")
    assert digest(project) == before
    (project / "src/lib/other.py").write_text("x = 2\n")
    assert digest(project) != before


def test_what_is_installed_beside_the_package_is_not_the_projects(project):
    deep = project / "src/lib/deep.py"
    deep.write_text("import beside\n" + deep.read_text())
    (project / "src/beside.py").write_text("x = 1\n")
    before = digest(project)
    (project / "src/beside.py").write_text("x = 2\n")
    assert digest(project) == before


def test_a_script_inside_the_package_as_in_a_wheel_has_the_same_digest(project):
    before = digest(project)
    (project / "src/lib/files").mkdir()
    moved = (project / "scripts/step.py").rename(project / "src/lib/files/step.py")
    assert provenance.code_digest(moved, project / "src/lib") == before


def test_relative_imports_are_refused(project):
    (project / "src/lib/mid.py").write_text("from .deep import f\n")
    with pytest.raises(ValueError, match="absolutely"):
        digest(project)


IMPORT_EACH = """
import builtins, json, runpy, sys
imports, plain = {}, builtins.__import__

def recorded(name, globals=None, locals=None, fromlist=(), level=0):
    module = plain(name, globals, locals, fromlist, level)
    if name.partition(".")[0] == "weight_atlas":
        parts = name.split(".")
        names = {".".join(parts[:length + 1]) for length in range(len(parts))}
        names |= {f"{name}.{each}" for each in fromlist or ()}
        imports.setdefault(globals["__name__"], set()).update(names & set(sys.modules))
    return module

builtins.__import__ = recorded
for script in sys.argv[1:]:
    runpy.run_path(script, run_name=script)
own = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "weight_atlas"}
print(json.dumps([{importer: sorted(names) for importer, names in imports.items()}, own]))
"""


def test_closure_holds_every_module_that_importing_a_script_loads():
    """All scripts in one process: what each would load alone follows from who imported what."""
    scripts = sorted(str(path) for path in (ROOT / "scripts").glob("*.py"))
    command = [sys.executable, "-c", IMPORT_EACH, *scripts]
    imports, files = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    def loaded(importer, seen):
        for name in set(imports.get(importer, ())) - seen:
            seen.add(name)
            loaded(name, seen)
        return seen

    of_scripts = {script: loaded(script, set()) for script in scripts}
    assert set.union(*of_scripts.values()) == set(files), "every import was seen"
    for script, names in of_scripts.items():
        reached = {str(path) for path in provenance.closure(script, ROOT / "src/weight_atlas").values()}
        assert names and {files[name] for name in names} <= reached, script


def test_what_is_kept_of_code_is_that_of_the_bytes_and_damage_is_made_good(tmp_path):
    kept = tmp_path / "code.json"
    first = ParsedCode()
    first.keep(kept)
    first.put("key", (("lib.a",), "digest"))
    first._write(kept)
    for content in (None, b"", b"[]", b"null", b'{"version": "other", "files": {}}', kept.read_bytes()[:-9]):
        if content is not None:
            kept.write_bytes(content)
        again = ParsedCode()
        again.keep(kept)
        assert again.get("key") == ((("lib.a",), "digest") if content is None else None)
        assert again.get("another key") is None
