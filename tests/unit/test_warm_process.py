"""Scripts in forks of one process: what they see, how they end, and what they end with."""

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from waiting import await_true, is_gone

from weight_atlas.workflow import forks
from weight_atlas.workflow.warm_process import KILLED, NotForked, WarmProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere each step is a process of its own")


class Watched(list):
    """The numbers of the processes that ran a script."""

    @contextmanager
    def __call__(self, pid):
        self.append(pid)
        yield


@pytest.fixture(scope="module")
def warm():
    return WarmProcess()


@pytest.fixture
def run(warm, tmp_path):
    """run(code, environment): the exit code of a script in a fork, and the numbers of the processes that ran it."""

    def run(code, environment=None, warm=warm):
        script = tmp_path / "script.py"
        script.write_text(code)
        watched = Watched()
        return warm.run(str(script), environment or {}, watched), watched

    return run


def test_a_script_is_the_main_program_of_a_process(run, tmp_path):
    code = """
import atexit, json, os, signal, sys, tempfile, threading
from pathlib import Path
atexit.register(lambda: Path("FOLDER/left").write_text("left"))
threading.Thread(target=lambda: Path("FOLDER/thread").write_text("done")).start()
Path("FOLDER/seen").write_text(json.dumps([
    __name__, sys.argv, sys.path[0], os.environ["A"], tempfile.gettempdir(), os.getpid(), str(Path.cwd()),
    signal.getsignal(signal.SIGINT) is signal.default_int_handler, sys.modules["__main__"].__file__,
]))
""".replace("FOLDER", str(tmp_path))
    (tmp_path / "for-this").mkdir()
    ended, watched = run(code, {"A": "1", "TMPDIR": str(tmp_path / "for-this")})
    assert ended == 0
    script = str(tmp_path / "script.py")
    seen = ["__main__", [script], str(tmp_path), "1", str(tmp_path / "for-this"), *watched, str(Path.cwd())]
    interrupts = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert json.loads((tmp_path / "seen").read_text()) == [*seen, interrupts, script]
    assert {name: (tmp_path / name).read_text() for name in ("left", "thread")} == {"left": "left", "thread": "done"}


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("", 0),
        ("import sys; sys.exit()", 0),
        ("import sys; sys.exit(3)", 3),
        ("import sys; sys.exit('what is wrong')", 1),
        ("1 / 0", 1),
        ("import no_such_module", 1),
        ("this is no Python", 1),
        ("import os; os._exit(7)", 7),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", KILLED),
        ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", 1),
    ],
)
def test_it_ends_with_the_code_that_python_would_end_with(run, code, ended):
    assert run(code)[0] == ended


def test_what_it_says_goes_where_this_process_writes(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; print('out'); print('err', file=sys.stderr); raise ValueError('wrong')")
    code = (
        "from contextlib import nullcontext\nfrom weight_atlas.workflow.warm_process import WarmProcess\n"
        f"print(WarmProcess().run({str(script)!r}, {{}}, nullcontext))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["out", "1"]
    assert done.stderr.startswith("err\nTraceback") and done.stderr.endswith("ValueError: wrong\n")


NOTED = "open({noted!r}, 'a').write('begun ')\n"


def test_a_slow_library_is_loaded_once_for_all_forks_that_come_to_it(run, tmp_path):
    noted = tmp_path / "noted"
    code = NOTED.format(noted=str(noted)) + "def main():\n    import jinja2\nmain()\n"
    ended, watched = run(code)
    assert (ended, len(watched), noted.read_text()) == (0, 2, "begun begun ")
    ended, watched = run(code)
    assert (ended, len(watched)) == (0, 1)


def test_a_fork_that_has_worked_for_long_loads_it_itself(run, tmp_path):
    noted = tmp_path / "noted"
    work = f"import time\nwhile time.process_time() < {forks.YOUNG}: pass\n"
    code = NOTED.format(noted=str(noted)) + work + "def main():\n    import jinja2\nmain()\n"
    ended, watched = run(code, warm=WarmProcess())
    assert (ended, len(watched), noted.read_text()) == (0, 1, "begun ")


def test_what_a_script_imports_at_its_top_is_there_for_the_next_one(run, tmp_path):
    folder = tmp_path / "loaded"
    folder.mkdir()
    (folder / "counted.py").write_text(f"open({str(tmp_path / 'loads')!r}, 'a').write('x')")
    own = WarmProcess()
    os.environ["PYTHONPATH"], before = str(folder), os.environ.get("PYTHONPATH")
    try:
        assert [run("import counted\nfrom no_such_module import x", warm=own)[0] for _ in range(2)] == [1, 1]
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
    assert (tmp_path / "loads").read_text() == "x"


def test_where_the_process_is_killed_its_fork_ends_and_the_next_script_runs(run, tmp_path):
    own = WarmProcess()
    pid = tmp_path / "pid"
    kill = f"import os, signal, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\n"
    kill += "os.kill(os.getppid(), signal.SIGKILL)\ntime.sleep(600)"
    assert run(kill, warm=own)[0] == KILLED
    await_true(lambda: is_gone(int(pid.read_text())))
    assert run("", warm=own)[0] == 0


def test_forks_end_with_the_one_who_asked_for_them(tmp_path):
    script, pid = tmp_path / "script.py", tmp_path / "pid"
    script.write_text(f"import os, time\nopen({str(pid)!r}, 'w').write(f'{{os.getpid()}}.')\ntime.sleep(600)")
    code = (
        "from contextlib import nullcontext\nfrom weight_atlas.workflow.warm_process import WarmProcess\n"
        f"WarmProcess().run({str(script)!r}, {{}}, nullcontext)"
    )
    asking = subprocess.Popen([sys.executable, "-c", code])
    await_true(lambda: pid.exists() and pid.read_text().endswith("."))
    fork = psutil.Process(int(pid.read_text()[:-1]))
    family = [fork.pid, fork.ppid()]
    asking.kill()
    asking.wait()
    await_true(lambda: all(map(is_gone, family)))


def test_a_process_that_cannot_be_started_is_no_end_of_a_step(run, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(NotForked):
        run("", warm=WarmProcess())
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(NotForked):
        run("", warm=WarmProcess())


@pytest.mark.slow
def test_no_library_that_is_loaded_for_forks_starts_a_thread_or_looks_for_a_gpu():
    code = f"""
import importlib, os
for name in sorted({sorted(forks.SLOW)}):
    importlib.import_module(name)
names = {{open(f"/proc/self/task/{{task}}/comm").read().strip() for task in os.listdir("/proc/self/task")}}
print(sorted(names - {{open("/proc/self/comm").read().strip()}}))
print("libcuda" in open("/proc/self/maps").read(), len(os.listdir("/proc/self/task")))
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    threads, of_cuda = done.stdout.splitlines()
    assert threads in ("['jemalloc_bg_thd']", "[]")
    assert of_cuda in ("False 2", "False 1")
