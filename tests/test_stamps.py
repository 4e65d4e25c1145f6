"""Stamps of compiled functions: an edit changes those of all functions that depend on it, and of no others.

The modules here are made up. An edit is a replaced text, and the answer is which of their functions get new stamps.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core.dispatcher import Dispatcher

from npp_rl.simulator import stamps
from npp_rl.training import graph_attention

# `below` is at the bottom, `middle` calls it, `above` calls `middle`.
BELOW = """
import enum, math
from typing import NamedTuple
import numpy as np
from numba import float64
from numba.extending import intrinsic
from npp_rl.simulator.compiled import kernel, njit

class Kind(enum.IntEnum):
    MINE = 1
    DOOR = 2

class Point(NamedTuple):
    x: float = 0.0
    y: float = 0.0

PLACE = np.dtype([("at", "f8"), ("inside", [("flag", "u1"), ("wide", "i4")])], align=True)
TABLE = np.array([1, 2, 3])
SCALAR = np.float32(1.5)
LIMIT = 10
NAMES = ("a", 1.0)
SET = frozenset({"reassoc", "nsz"})

def plain(x):
    return x + 1

@kernel
def leaf(x):
    return x + LIMIT  # a comment

@njit
def other(x, y=2):
    return x * y

@njit
def table(i):
    return TABLE[i] + SCALAR

@njit
def record():
    return np.zeros(3, PLACE)

@njit
def kinds(k):
    return k == Kind.DOOR

@njit
def point():
    return Point()

@njit
def numbers(x):
    return float64(math.sqrt(x)) + np.hypot(x, NAMES[1])

@kernel(fastmath=SET)
def fast(x):
    return x + x

@njit
def uses_plain(x):
    return plain(x)

@intrinsic
def written(context, x):
    def write(context, builder, signature, values):
        return builder.add(values[0], values[0].type(EXTRA))

    return x(x), write

EXTRA = 7

@njit
def uses_written(x):
    return written(x)

def made(n):
    step = n

    @njit
    def closure(x):
        return leaf(x) + step

    return closure

three = made(3)
four = made(4)

@njit
def nested(n):
    return sum([other(k) for k in range(n)])
"""
MIDDLE = """
import below
from below import fast, four, leaf, other, three
from npp_rl.simulator.compiled import kernel, njit

@njit
def calls_leaf(x):
    return leaf(x)

@njit
def calls_other(x):
    return other(x)

@kernel(inline="always")
def by_module(x):
    return below.leaf(x) + below.LIMIT + below.other(x, 3)

@njit
def calls_fast(x):
    return fast(x)

@njit
def calls_three(x):
    return three(x)

@njit
def even(n):
    return True if n == 0 else odd(n - 1)

@njit
def odd(n):
    return False if n == 0 else even(n - 1)
"""
ABOVE = """
import middle
from middle import by_module, calls_fast, calls_leaf, calls_other, calls_three, even
from npp_rl.simulator.compiled import njit

@njit
def top(x):
    return calls_leaf(x) + 1

@njit
def top_other(x):
    return calls_other(x)

@njit
def top_module(x):
    return by_module(x)

@njit
def top_fast(x):
    return calls_fast(x)

@njit
def top_three(x):
    return calls_three(x)

@njit
def top_even(x):
    return even(x)
"""
TEXTS = {"below": BELOW, "middle": MIDDLE, "above": ABOVE}
LEAF = {"leaf", "calls_leaf", "top", "closure 3", "closure 4", "by_module", "top_module", "calls_three", "top_three"}
OTHER = {"other", "calls_other", "top_other", "by_module", "top_module", "nested"}


def stamps_of(folder, monkeypatch, **texts):
    """Stamps by function of the three modules, imported from `folder` with these texts."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(stamps.config, "CACHE_DIR", str(folder))
    for name, text in (TEXTS | texts).items():
        (Path(folder) / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
    importlib.invalidate_caches()
    found = {}
    for name in TEXTS:
        for key, value in vars(importlib.import_module(name)).items():
            if isinstance(value, Dispatcher):
                key = {"three": "closure 3", "four": "closure 4"}.get(key, key)
                found.setdefault(key, stamps.function_stamp(value))  # of the module that defines it
    for name in TEXTS:
        sys.modules.pop(name)
    assert all(found.values())
    return found


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        return stamps_of(tmp_path_factory.mktemp("before"), patch)


EDITS = {
    "nothing": ("below", "# a comment", "# another comment\n    # of two lines", set()),
    "a callee": ("below", "return x + LIMIT", "return x - LIMIT", LEAF),
    "a constant": ("below", "LIMIT = 10", "LIMIT = 11", LEAF),
    "the type of a constant": ("below", "LIMIT = 10", "LIMIT = 10.0", LEAF),
    "a default argument": ("below", "y=2", "y=3", OTHER),
    "an entry of a table": ("below", "[1, 2, 3]", "[1, 2, 4]", {"table"}),
    "the dtype of a table": ("below", "[1, 2, 3])", "[1, 2, 3], np.int32)", {"table"}),
    "the shape of a table": ("below", "[1, 2, 3])", "[[1, 2, 3]])", {"table"}),
    "a scalar": ("below", "np.float32(1.5)", "np.float64(1.5)", {"table"}),
    "a field of a record": ("below", '("wide", "i4")', '("wide", "i8")', {"record"}),
    "the name of a field": ("below", '("wide", "i4")', '("broad", "i4")', {"record"}),
    "the alignment of a record": ("below", ", align=True)", ")", {"record"}),
    "a member of an enumeration": ("below", "DOOR = 2", "DOOR = 3", {"kinds"}),
    "a default of a named tuple": ("below", "y: float = 0.0", "y: float = -0.0", {"point"}),
    "an element of a tuple": ("below", '("a", 1.0)', '("a", -1.0)', {"numbers"}),
    "a function of the library": ("below", "math.sqrt", "math.exp", {"numbers"}),
    "a type of Numba": ("below", "import float64", "import float32 as float64", {"numbers"}),
    "a Python function": ("below", "return x + 1\n", "return x + 2\n", {"uses_plain"}),
    "a decorator's options": ("below", '"reassoc", "nsz"', '"reassoc"', {"fast", "calls_fast", "top_fast"}),
    "an intrinsic": ("below", "builder.add(", "builder.sub(", {"uses_written"}),
    "a constant of an intrinsic": ("below", "EXTRA = 7", "EXTRA = 8", {"uses_written"}),
    "a cell of a closure": ("below", "made(3)", "made(5)", {"closure 3", "calls_three", "top_three"}),
    "an option in the middle": ("middle", 'inline="always"', 'inline="never"', {"by_module", "top_module"}),
    "one of two that call each other": ("middle", "odd(n - 1)", "odd(n - 3)", {"even", "odd", "top_even"}),
    "the callee itself": ("middle", "fast, four, leaf", "fast, four, three as leaf", {"calls_leaf", "top"}),
    "the callee by its module": ("middle", "below.leaf(x)", "below.fast(x)", {"by_module", "top_module"}),
    "the top": ("above", "calls_leaf(x) + 1", "calls_leaf(x) + 2", {"top"}),
    "an order of functions": (
        "above",
        "@njit\ndef top(x)",
        "@njit\ndef first(x):\n    return x\n\n@njit\ndef top(x)",
        set(),
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edit_changes_what_depends_on_it(edit, before, tmp_path, monkeypatch):
    name, old, new, answer = EDITS[edit]
    assert TEXTS[name].count(old) == 1
    after = stamps_of(tmp_path, monkeypatch, **{name: TEXTS[name].replace(old, new)})
    assert {key for key, stamp in before.items() if after[key] != stamp} == answer


def test_functions_that_exchange_their_names(before, tmp_path, monkeypatch):
    """Both are there before and after, and only their places differ."""
    text = MIDDLE.replace("return leaf(x)", "return leaf(three(x))")
    one = stamps_of(tmp_path, monkeypatch, middle=text)
    other = stamps_of(tmp_path, monkeypatch, middle=text.replace("leaf(three(x))", "three(leaf(x))"))
    third = stamps_of(
        tmp_path, monkeypatch, middle=text.replace("leaf, other, three", "three as leaf, other, leaf as three")
    )
    assert len({one["calls_leaf"], other["calls_leaf"], third["calls_leaf"]}) == 3


UNTOLD = {
    "an object": ("class Odd:\n    value = 1\n\nODD = Odd()", "ODD.value"),
    "a class": ("class ODD:\n    value = 1", "ODD.value"),
    "a module of one's own": ("import sys\nODD = sys.modules[__name__]", "ODD(1)"),
    "an import": ("ODD = 1", "ODD + math.e"),
    "a method": ("ODD = np.zeros(3).sum", "ODD()"),
}


@pytest.mark.parametrize("kind", UNTOLD)
def test_what_cannot_be_told_depends_on_whole_files(kind, tmp_path, monkeypatch):
    """Then any edit counts: one of the function's own file, even a comment, and one of the package's compiled files."""
    made, used = UNTOLD[kind]
    first = "    import math\n" if kind == "an import" else ""
    text = (
        f"{BELOW}\n{made}\n@njit\ndef odd(x):\n{first}    return {used}\n@njit\ndef calls_odd(x):\n    return odd(x)\n"
    )
    one = stamps_of(tmp_path, monkeypatch, below=text)
    stamps._file_stamp.cache_clear()
    two = stamps_of(tmp_path, monkeypatch, below=text + "# more")
    assert {name for name in one if one[name] != two[name]} == {"odd", "calls_odd"}
    monkeypatch.setattr(stamps, "source_stamp", lambda: "of other files")
    three = stamps_of(tmp_path, monkeypatch, below=text + "# more")
    assert {name for name in one if three[name] != two[name]} == {"odd", "calls_odd"}


def test_what_is_registered_with_numba_depends_on_its_file(tmp_path, monkeypatch):
    text = BELOW + "\nfrom numba.extending import overload\n"
    one = stamps_of(tmp_path, monkeypatch, below=text)
    stamps._registered.cache_clear()
    stamps._file_stamp.cache_clear()
    two = stamps_of(tmp_path, monkeypatch, below=text + "# more")
    alone = {"even", "odd", "top_even"}
    assert {name for name in one if one[name] == two[name]} == alone


def test_versions_and_settings_belong_to_it(before, tmp_path, monkeypatch):
    for owner, name, value in (
        (stamps.numba, "__version__", "0.1"),
        (stamps.llvmlite, "__version__", "0.1"),
        (stamps.np, "__version__", "0.1"),
        (stamps.platform, "python_version", lambda: "3.99"),
        (stamps.config, "BOUNDSCHECK", 1),
        (stamps.config, "OPT", 1),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            after = stamps_of(tmp_path, monkeypatch)
            assert all(after[key] != stamp for key, stamp in before.items()), name
    assert stamps_of(tmp_path, monkeypatch) == before


def test_a_value_that_changed_has_no_stamp(tmp_path, monkeypatch):
    """Numba may have compiled one function with the old value, and compiles the next one with the new one."""
    stamps_of(tmp_path, monkeypatch)
    below, middle = importlib.import_module("below"), importlib.import_module("middle")
    assert stamps.function_stamp(middle.calls_leaf) and stamps.function_stamp(middle.calls_other)
    below.LIMIT = 12
    assert stamps.function_stamp(middle.calls_leaf) == "" and stamps.function_stamp(middle.calls_other)
    below.LIMIT = 10
    assert stamps.function_stamp(middle.calls_leaf)
    below.TABLE[0] = 5
    stamps.function_stamp(below.table)
    below.TABLE[0] = 1
    assert stamps.function_stamp(below.table) == ""
    for name in TEXTS:
        sys.modules.pop(name, None)


def test_all_functions_of_the_package_are_told_exactly():
    for name in ("ppo_gat", "ppo_vision_free", "planning.search", "evaluation.retrace", "levels.copies"):
        importlib.import_module(f"npp_rl.{name}")
    values = [
        value for name in list(sys.modules) if name.startswith("npp_rl") for value in vars(sys.modules[name]).values()
    ]
    functions = {value for value in values if isinstance(value, Dispatcher)}
    functions.update(graph_attention.attention_kernels(2, 4))
    assert len(functions) > 150
    assert [function for function in functions if not stamps._look(function)[2]] == []


def test_a_stamp_is_the_same_in_each_process():
    code = "from npp_rl.environment import games; from npp_rl.simulator.stamps import function_stamp as stamp\n"
    code += "print(stamp(games.advance_all), stamp(games.graph_all))"
    printed = set()
    for seed in "12":
        settings = os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run([sys.executable, "-c", code], env=settings, capture_output=True, text=True)
        printed.add(done.stdout)
        assert len(done.stdout.split()) == 2, done.stderr
    assert len(printed) == 1
