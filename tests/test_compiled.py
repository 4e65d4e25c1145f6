"""The compilation cache: it sees every edit, tells settings apart, and a broken one does no harm.

Each test works on a copy of the package in a folder of its own, in processes with a cache folder of their own.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import npp_rl
from npp_rl.simulator import compiled, geometry

PACKAGE = Path(npp_rl.__file__).parent

# A caller outside the copied file, and a callee in it: the stamp has to know both.
CALLER = """
from npp_rl.simulator.compiled import njit
from npp_rl.simulator.geometry import time_circle_circle

@njit
def call(x):
    return time_circle_circle(0.0, 0.0, x, 0.0, 30.0, 0.0, 10.0) + BONUS

BONUS = 0.0

@njit
def alone(x):
    return x + 1
"""
SHOW = """
import sys
sys.path.insert(0, sys.argv[1])
import caller
value = caller.call(10.0)
assert caller.alone(1) == 2
stats = caller.call.stats
hits = sum(caller.alone.stats.cache_hits.values())
print(value, sum(stats.cache_hits.values()), sum(stats.cache_misses.values()), hits)
"""


@pytest.fixture
def project(tmp_path):
    """A folder with a copy of the simulator and a caller, which `show` runs."""
    copy = tmp_path / "npp_rl"
    copy.mkdir()
    (copy / "__init__.py").write_text("")
    shutil.copytree(PACKAGE / "simulator", copy / "simulator", ignore=shutil.ignore_patterns("__pycache__", "*.md"))
    (tmp_path / "caller.py").write_text(CALLER)
    return tmp_path


def show(project, alone=None, **environment):
    """What `call(10)` yields in a fresh process -> value, cache hits, cache misses. alone: hits of the other one."""
    settings = os.environ | {"NUMBA_CACHE_DIR": str(project / "cache"), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    settings.pop("PYTHONPATH", None)
    done = subprocess.run(
        [sys.executable, "-c", SHOW, str(project)], env=settings, capture_output=True, text=True, cwd=project
    )
    assert done.returncode == 0, done.stderr
    assert str(done.stderr) == ""
    value, hits, misses, other = done.stdout.split()
    assert alone in (None, int(other))
    return float(value), int(hits), int(misses)


def edit(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


def test_an_edited_callee_in_another_file_and_an_edited_constant_are_seen(project):
    assert show(project) == (2.0, 0, 1)
    assert show(project) == (2.0, 1, 0)
    edit(project / "npp_rl/simulator/geometry.py", "(-k - math.sqrt(root)) / w2\n        ", "7.0\n        ")
    assert show(project) == (7.0, 0, 1)
    assert show(project) == (7.0, 1, 0)
    (path,) = (project / "cache").rglob("caller.call*.nbc")
    old = path.read_bytes()
    edit(project / "caller.py", "BONUS = 0.0", "BONUS = 3.0")
    assert show(project) == (10.0, 0, 1)
    # Two processes with other sources may write to one folder: data of another stamp are not used.
    path.write_bytes(old)
    assert show(project) == (10.0, 0, 1)


def test_an_edit_recompiles_only_what_depends_on_it(project):
    assert show(project, alone=0) == (2.0, 0, 1)
    edit(project / "npp_rl/simulator/geometry.py", "(-k - math.sqrt(root)) / w2\n        ", "7.0\n        ")
    assert show(project, alone=1) == (7.0, 0, 1)
    edit(project / "npp_rl/simulator/geometry.py", "import math\n", "import math\n\nUNUSED = 1  # moves lines\n\n")
    edit(project / "caller.py", "@njit\ndef call", "# moves lines, too\n\n@njit\ndef call")
    assert show(project, alone=1) == (7.0, 1, 0)


def test_bounds_checks_have_a_cache_of_their_own(project):
    assert show(project) == (2.0, 0, 1)
    assert show(project, NUMBA_BOUNDSCHECK="1") == (2.0, 0, 1)
    assert show(project, NUMBA_BOUNDSCHECK="1") == (2.0, 1, 0)
    assert show(project) == (2.0, 0, 1)


def test_a_broken_cache_file_counts_as_missing(project):
    assert show(project) == (2.0, 0, 1)
    (path,) = (project / "cache").rglob("caller.call*.nbc")
    content = path.read_bytes()
    flipped = content[:-20] + bytes(b ^ 255 for b in content[-20:])
    for broken in (b"", content[: len(content) // 2], flipped):
        path.write_bytes(broken)
        assert show(project) == (2.0, 0, 1)
    assert show(project) == (2.0, 1, 0)


# Two signatures, compiled in an order of one's own choice.
RACE = """
import sys
sys.path.insert(0, sys.argv[1])
from npp_rl.simulator.compiled import njit

@njit
def twice(x):
    return x + x

for x in (complex(a) if "j" in a else float(a) if "." in a else int(a) for a in sys.argv[2:]):
    assert twice(x) == x + x and type(twice(x)) is type(x), x
print(sum(twice.stats.cache_hits.values()))
"""


def test_processes_that_compile_at_once_do_not_mix_up_their_files(project):
    (project / "race.py").write_text(RACE)
    settings = os.environ | {"NUMBA_CACHE_DIR": str(project / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, str(project / "race.py"), str(project)]
    numbers = ["1", "1.5", "2j"]
    both = [subprocess.Popen(command + order, env=settings) for order in (numbers, numbers[::-1])]
    assert [process.wait() for process in both] == [0, 0]
    done = subprocess.run(command + numbers, env=settings, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "3\n"), done.stderr


def test_a_kernel_refuses_to_be_called_from_python():
    with pytest.raises(TypeError, match="overlap is a kernel: only compiled functions can call it"):
        geometry.overlap(0.0, 0.0, 1.0, 1.0, 2.0)


def test_without_a_place_for_the_cache_everything_works_and_it_is_said_once(project):
    (project / "file").write_text("")
    for folder in (project / "npp_rl" / "simulator", project):  # where Numba would put `__pycache__`
        (folder / "__pycache__").write_text("a file, in which nobody can write, not even root")
    settings = {"NUMBA_CACHE_DIR": str(project / "file"), "XDG_CACHE_HOME": str(project / "file")}
    settings = os.environ | settings | {"PYTHONDONTWRITEBYTECODE": "1"}
    settings.pop("PYTHONPATH", None)
    command = [sys.executable, "-c", SHOW, str(project)]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, cwd=project)
    assert (done.returncode, done.stdout) == (0, "2.0 0 1 0\n"), done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("warning: compiled code is not kept, every start compiles") and "NUMBA_CACHE_DIR" in line


def test_a_cache_that_becomes_full_is_done_without(project):
    full = "def save(*_):\n    raise OSError(28, 'No space left on device')\n"
    code = SHOW.replace("value = caller", f"from npp_rl.simulator import compiled\n{full}value = caller", 1)
    code = code.replace("value = caller", "compiled._CacheFile.save = save\nvalue = caller")
    settings = os.environ | {"NUMBA_CACHE_DIR": str(project / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    settings.pop("PYTHONPATH", None)
    done = subprocess.run([sys.executable, "-c", code, str(project)], env=settings, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2.0 0 1 0\n"), done.stderr
    assert done.stderr.count("No space left on device") == done.stderr.count("\n") == 1


# Both callers are new, and `middle` comes from the cache.
KERNELS = """
import sys
sys.path.insert(0, sys.argv[1])
from npp_rl.simulator.compiled import kernel, njit

@kernel
def low(x):
    return x * FACTOR

@kernel
def middle(x, y):
    return low(x) + y

@njit
def high(x):
    return middle(x, 1.0)

FACTOR = 3.0
print(high(2.0), sum(middle.stats.cache_hits.values()), sum(high.stats.cache_hits.values()))
"""


def test_kernels_from_the_cache_are_linked_into_new_callers(project):
    path = project / "kernels.py"
    path.write_text(KERNELS)
    settings = os.environ | {"NUMBA_CACHE_DIR": str(project / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}

    def shown():
        done = subprocess.run([sys.executable, path, project], env=settings, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert shown() == ["7.0", "0", "0"]
    assert shown() == ["7.0", "0", "1"]
    edit(path, "middle(x, 1.0)", "middle(x, 2.0) * 10")
    assert shown() == ["80.0", "1", "0"]
    assert shown() == ["80.0", "0", "1"]
    edit(path, "FACTOR = 3.0", "FACTOR = 4.0")
    assert shown() == ["100.0", "0", "0"]


def test_a_kernel_has_no_machine_code_of_its_own():
    @compiled.kernel
    def low(x):
        return x + 1

    @compiled.kernel
    def middle(x):
        return low(x) + 1

    @compiled.njit
    def high(x):
        return middle(x) + 1

    assert high(1) == 4
    for function, has_code in ((low, False), (middle, False), (high, True)):
        (result,) = function.overloads.values()
        assert bool(result.library.get_pointer_to_function(result.fndesc.llvm_func_name)) == has_code
