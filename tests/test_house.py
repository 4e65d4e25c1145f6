"""The house: rooms by purpose, and imports that lead downwards only, those inside functions and by importlib too.

A room is a folder of code, or a file at the top of `npp_rl/` or `benchmark/`. FLOORS lists the rooms from the ground
up; a file may import from its own room and from lower floors. Rooms on one floor do not know each other.
"""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "npp_rl").glob("ppo_*.py"))

FLOORS = (
    {"npp_rl", "npp_rl.files", "npp_rl.commands"},
    {"npp_rl.simulator"},
    {"npp_rl.levels"},
    {"npp_rl.viewing"},
    {"npp_rl.environment"},
    {"npp_rl.training"},
    {"npp_rl.evaluation"},
    {"npp_rl.planning"},
    {f"npp_rl.{name}" for name in SCRIPTS},
    {"npp_rl.scripts"},
    {"npp_rl.agents", "npp_rl.bc_pretrain"},
    {"npp_rl.distill"},
    # Programs: what a person starts. Nothing in `npp_rl` imports them.
    {"npp_rl.evaluation.__main__", "npp_rl.cost", "npp_rl.play", "npp_rl.relabel", "npp_rl.make_levels"}
    | {"npp_rl.export", "npp_rl.zoo"},
    {"benchmark.examples", "benchmark.reporting"},
    {"benchmark.runner"},
    {"benchmark.tuning"},
    {f"benchmark.{name}" for name in ("curves", "report", "throughput", "train_and_compare", "tune", "wandb_report")},
    {"benchmark.dashboard", "benchmark.scaling"},
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Module name -> file of all code of the project, its tests aside."""
    files = [*(ROOT / "npp_rl").rglob("*.py"), *(ROOT / "benchmark").rglob("*.py")]
    return {module_of(path): path for path in files if "results" not in path.parts}


def room_of(module: str) -> str:
    """`npp_rl.levels.maps` -> `npp_rl.levels`; a file at the top of a package, and a program, is a room of its own."""
    return module if module in FLOOR_OF else ".".join(module.split(".")[:2])


def imports(module: str, text: str, known) -> set[str]:
    """Modules of the project that a file imports, wherever in it, by whichever means."""
    found = set()

    def add(name):
        while name and name not in known:  # `from npp_rl.levels import maps` names a file, `... import Level` does not
            name = name.rpartition(".")[0]
        if name and name != module:
            found.add(name)

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import in line {node.lineno}"
            for alias in node.names:
                add(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called not in ("import_module", "__import__", "run_module") or not node.args:
                continue
            first = node.args[0]
            if isinstance(first, ast.Constant):
                add(first.value)
            elif isinstance(first, ast.JoinedStr) and isinstance(first.values[0], ast.Constant):
                for name in known:  # f"npp_rl.ppo_{name}": all that it may mean
                    if name.startswith(first.values[0].value):
                        add(name)
    return found - {"npp_rl", "benchmark"} | ({"npp_rl"} & found if module.count(".") else set())


@pytest.fixture(scope="module")
def house() -> dict[str, set[str]]:
    known = modules()
    return {module: imports(module, path.read_text(), known) for module, path in known.items()}


def circle_in(graph: dict[str, set[str]]) -> list[str] | None:
    """Names on a circle of a graph, the first one twice; None where there is none."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return None
        path.append(name)
        for other in sorted(graph.get(name, ())):
            if found := visit(other):
                return found
        done.add(path.pop())
        return None

    return next((found for name in sorted(graph) if (found := visit(name))), None)


def test_every_file_is_in_a_room(house):
    packages = {"benchmark"}
    assert {room_of(module) for module in house} - packages == set(FLOOR_OF)


def test_no_circle_between_files(house):
    assert circle_in(house) is None


def test_no_circle_between_rooms(house):
    rooms = {}
    for module, others in house.items():
        rooms.setdefault(room_of(module), set()).update(room_of(other) for other in others)
    assert circle_in({room: others - {room} for room, others in rooms.items()}) is None


def test_imports_lead_downwards(house):
    upwards = [
        f"{module} imports {other}"
        for module, others in sorted(house.items())
        for other in sorted(others)
        if room_of(module) != room_of(other)
        and FLOOR_OF[room_of(other)] >= FLOOR_OF.get(room_of(module), len(FLOORS))
        and not {room_of(module), room_of(other)} <= FLOORS[0]
    ]
    assert upwards == []


def test_the_reader_of_imports_sees_all_of_them():
    known = {"npp_rl", "npp_rl.a", "npp_rl.b", "npp_rl.b.c", "npp_rl.b.d", "npp_rl.ppo_x", "npp_rl.ppo_y"}
    text = """
import npp_rl.a
from npp_rl.b import c, name
def inside():
    from npp_rl.b.d import other
    importlib.import_module(f"npp_rl.ppo_{name}")
    importlib.import_module("npp_rl.a")
"""
    found = {"npp_rl.a", "npp_rl.b", "npp_rl.b.c", "npp_rl.b.d", "npp_rl.ppo_x", "npp_rl.ppo_y"}
    assert imports("npp_rl.b.e", text, known) == found


def test_circles_are_found():
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"d"}, "d": set()}) is None
    assert circle_in({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]


def test_a_plain_installation_is_enough_to_train_and_to_report():
    """Modules of other projects are dependencies, but for those of the extras, which say so where they are missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = {re.match(r"[\w-]+", text).group() for text in project["dependencies"]}
    extras = {"av", "pygame", "optuna", "wandb_workspaces", "submitit", "onnxruntime", "starlette", "uvicorn", "anyio"}
    modules_of = {"pillow": "PIL"}
    installed = {modules_of.get(name, name.replace("-", "_")) for name in named}
    installed |= {"botocore", "llvmlite"}  # which boto3 and Numba need
    installed |= extras | set(sys.stdlib_module_names)
    missing = set()
    for module, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            missing |= {(module, name) for name in names if name.partition(".")[0] not in installed}
    assert {(module, name) for module, name in missing if not name.startswith(("npp_rl", "benchmark"))} == set()
