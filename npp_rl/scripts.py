"""The scripts of architectures: this package's by their names, a user's own by a path that ends in `.py`.

A script of one's own is a copy of one of ours with other parts between its markers. To import it runs it, so its path
comes from the user's command line, never from a checkpoint or a configuration.
"""

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from npp_rl import ARCHITECTURES
from npp_rl.commands import ArgumentError, UserError
from npp_rl.files import read_bytes, shown_name
from npp_rl.training.source import SCRIPT_BYTES, check_name

PACKAGE = Path(__file__).resolve().parent
NEEDED = ("ARCHITECTURE", "SIZES", "Args", "Agent", "main")
EXPECTED = "expected a copy of a script such as npp_rl/ppo_mlp_baseline.py"


class Script(NamedTuple):
    """A script: its ARCHITECTURE, its absolute path, and the SHA-256 (hex) of its text."""

    architecture: str
    path: Path
    sha256: str

    @property
    def ours(self) -> bool:
        """Whether it is one of this package's."""
        return self.path.parent == PACKAGE and self.architecture in ARCHITECTURES

    @property
    def word(self) -> str:
        """What names it on a command line."""
        return self.architecture if self.ours else str(self.path)


def find(word: str, flag: str) -> Script:
    """The script of an architecture's name or of a path that ends in `.py`; it is read, not executed.

    Raises ArgumentError, one line that names the flag and the word.
    """
    if word in ARCHITECTURES:
        path = PACKAGE / f"ppo_{word}.py"
        return Script(word, path, hashlib.sha256(_bytes_of(path, word, flag)).hexdigest())
    if not word.endswith(".py"):
        known = ", ".join(ARCHITECTURES)
        raise ArgumentError(f"{flag} {shown_name(word)}: unknown (expected {known}, or a script's path, NAME.py)")
    path = Path(word).resolve()
    text = _bytes_of(path, word, flag)
    name = _architecture_of(text, f"{flag} {shown_name(word)}")
    script = Script(name, path, hashlib.sha256(text).hexdigest())
    if name not in ARCHITECTURES:
        return script
    own = find(name, flag)
    if script.sha256 != own.sha256:
        place = f"npp_rl/{own.path.name}"
        raise ArgumentError(
            f"{flag} {shown_name(word)}: its ARCHITECTURE {name!r} belongs to {place} (expected a name of its own)"
        )
    return own


def find_all(words: tuple[str, ...], flag: str) -> dict[str, Script]:
    """The scripts of several words by architecture. Raises ArgumentError, also for two scripts of one name."""
    found = {}
    for word in words:
        script = find(word, flag)
        other = found.setdefault(script.architecture, script)
        if other.path != script.path:
            raise ArgumentError(
                f"{flag} {shown_name(word)}: ARCHITECTURE {script.architecture!r} is that of "
                f"{shown_name(other.word)} too (expected names that differ)"
            )
    return found


def of_run(args) -> ModuleType:
    """The script of `--script`, else of `--arch`, imported; sets `args.arch` to its architecture. Raises ArgumentError.

    Where a script of the user's own lies is not taken from a run's configuration: it is named again to resume.
    """
    found = find(args.script, "--script") if args.script else None
    if args.resume and found and found.architecture != args.arch:
        raise ArgumentError(f"--script {args.script}: is of {found.architecture}, the run of {args.arch}")
    if args.resume and not found and args.arch not in ARCHITECTURES:
        raise ArgumentError(f"--resume {args.resume}: {args.arch!r:.60} is none of the eight: --script is missing")
    found = found or find(args.arch, "--arch")
    args.arch = found.architecture
    return load(found, "--script")


def agent_args(args, script: ModuleType):
    """Arguments for a script's agent: those of a run where both have them, the preset's sizes, else defaults."""
    own = {field.name for field in dataclasses.fields(script.Args)}
    common = {name: value for name, value in vars(args).items() if name in own}
    return script.Args(**{**common, **script.SIZES[args.size]})


def load(script: Script, flag: str) -> ModuleType:
    """Import a script. Raises ArgumentError if it cannot be imported, or has not what the commands need of it."""
    if script.ours:
        return importlib.import_module(f"npp_rl.ppo_{script.architecture}")
    # The name is unlike any other module's, and another after each edit of the file.
    key = hashlib.sha256(f"{script.path} {script.sha256}".encode(errors="surrogateescape")).hexdigest()[:16]
    name = f"npp_rl_script_{key}.{script.path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    place = f"{flag} {shown_name(str(script.path))}"
    spec = importlib.util.spec_from_file_location(name, script.path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
        _check(module, script, place)
    except ArgumentError:
        del sys.modules[name]
        raise
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ArgumentError(f"{place}: importing it failed{_line_of(error, script.path)}: {_said(error)}") from error
    return module


def _check(module, script, place):
    if script.architecture != module.ARCHITECTURE:
        raise ArgumentError(f"{place}: ARCHITECTURE changes while it is imported (expected one plain text)")
    names = {field.name for field in dataclasses.fields(module.Args)}
    sizes = module.SIZES
    if not isinstance(sizes, dict) or not {"small", "full"} <= sizes.keys():
        raise ArgumentError(f"{place}: SIZES has not both presets, small and full")
    if unknown := sorted({name for preset in sizes.values() for name in preset} - names):
        raise ArgumentError(f"{place}: SIZES has {unknown[0]!r}, which is no field of Args")
    if not isinstance(getattr(module.Agent, "observations", None), tuple):
        raise ArgumentError(f"{place}: Agent has no tuple `observations`")


def _bytes_of(path: Path, word: str, flag: str) -> bytes:
    try:
        return read_bytes(path, SCRIPT_BYTES)
    except UserError as error:
        raise ArgumentError(f"{flag} {shown_name(str(error))}") from None
    except OSError as error:
        raise ArgumentError(f"{flag} {shown_name(word)}: {(error.strerror or 'cannot be read').lower()}") from None


def definitions_of(text: str | bytes) -> dict[str, ast.AST]:
    """What a script's text defines at its top: name -> node. Raises SyntaxError, ValueError, RecursionError."""
    found = {}
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: node for target in targets if isinstance(target, ast.Name)}
    return found


def _architecture_of(text: bytes, place: str) -> str:
    try:
        found = definitions_of(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f" in line {error.lineno}" if getattr(error, "lineno", None) else ""
        raise ArgumentError(f"{place}: no Python script ({getattr(error, 'msg', None) or error}{line})") from None
    if missing := [name for name in NEEDED if name not in found]:
        raise ArgumentError(f"{place}: has no {missing[0]} ({EXPECTED})")
    value = getattr(found["ARCHITECTURE"], "value", None)
    name = value.value if isinstance(value, ast.Constant) else None
    if not isinstance(name, str):
        raise ArgumentError(f'{place}: expected a line such as ARCHITECTURE = "own" in it')
    check_name(name, place)
    return name


def fields_of(text: str | bytes) -> dict[str, str]:
    """The fields of Args in a script's text: name -> type and default, as written. {} if it cannot be read."""
    try:
        body = definitions_of(text)["Args"].body
        return {
            node.target.id: shown_name(f"{ast.unparse(node.annotation)} = {node.value and ast.unparse(node.value)}")[
                :60
            ]
            for node in body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError, KeyError, AttributeError):
        return {}


def differences_of_fields(then: str | bytes, now: str | bytes) -> str:
    """How the fields of Args differ in two texts of a script, in words."""
    before, after = fields_of(then), fields_of(now)
    words = [f"{name} is gone" for name in before if name not in after]
    words += [f"{name} is new" for name in after if name not in before]
    words += [
        f"{name} was `{before[name]}`, now `{after[name]}`"
        for name in before
        if name in after and before[name] != after[name]
    ]
    shown = "; ".join(words[:8]) + (f"; and {len(words) - 8} more" if len(words) > 8 else "")
    return f"in Args {shown}" if words else "its Args are the same"


def _line_of(error: BaseException, path: Path) -> str:
    """`, line N`, the last line of the script that an error passed through; "" if there is none."""
    lines, trace = [], error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return f" in line {lines[-1]}" if lines else ""


def _said(error: BaseException) -> str:
    words = " ".join(str(error).split())[:200]
    hint = " (a script imports npp_rl and installed libraries only)" if isinstance(error, ModuleNotFoundError) else ""
    return f"{type(error).__name__}{': ' if words else ''}{words}{hint}"
