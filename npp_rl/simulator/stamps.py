"""Stamps of compiled functions: hashes of all that their machine code depends on.

A function's stamp covers its bytecode, default arguments and decorator options, and the values that it takes from its
module and from enclosing functions: numbers, arrays, dtypes, and other functions with all that these depend on in turn.
Versions of Numba, llvmlite, NumPy and Python belong to it, and settings that change how Numba compiles. Line numbers do
not, and comments do not.

What a module registers with Numba for types of its own has no name in functions: such a module's whole file belongs to
the stamps of functions that reach it. A value that cannot be told exactly, such as an object of a class of one's own,
makes a stamp depend on all files of the package that hold compiled code, and on the files that the function reaches.
"""

import dis
import enum
import functools
import hashlib
import platform
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path

import llvmlite
import numba
import numpy as np
from numba.core import config
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic

_PACKAGE = Path(__file__).resolve().parent.parent
_KNOWN = {"numba", "numpy", "llvmlite", *sys.stdlib_module_names}  # every stamp has their versions
_SETTINGS = ("BOUNDSCHECK", "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT", "ENABLE_AVX", "USING_SVML")
# What numba.extending registers for all functions: models of types, and code for calls and attributes.
_REGISTERS = re.compile(rb"\b(register_model|register_jitable|overload\w*|lower_\w+|typeof_impl|type_callable|unbox)\b")


@functools.cache
def source_stamp() -> str:
    """Hash (hex) of all Python files with compiled code, of Numba's version and of the bounds-check setting."""
    digest = hashlib.sha256(f"{numba.__version__} {config.BOUNDSCHECK}".encode())
    for path in sorted(_PACKAGE.rglob("*.py")):
        text = path.read_bytes()
        if path.parent.name == "simulator" or b"compiled import" in text:
            digest.update(path.relative_to(_PACKAGE).as_posix().encode() + text)
    return digest.hexdigest()


def function_stamp(function: Dispatcher) -> str:
    """Hash (hex) of all that the machine code of a function made by `numba.njit` depends on.

    It is "" if a value has changed since it was first looked at. Numba may have compiled some of the functions with the
    old value and others with the new one.
    """
    stamp = _stamp(function, _looked)
    return stamp if stamp == _stamp(function, _look) else ""


def _stamp(function, look):
    settings = [repr(getattr(config, name, None)) for name in _SETTINGS]
    told = [numba.__version__, llvmlite.__version__, np.__version__, platform.python_version(), *settings]
    reached, numbers, exact = [function], {_python(function): 0}, True
    for one in reached:  # which grows meanwhile
        text, others, known = look(one)
        told.append(text)
        exact &= known
        for other in others:
            if _python(other) not in numbers:
                numbers[_python(other)] = len(reached)
                reached.append(other)
            told.append(str(numbers[_python(other)]))  # so functions that exchange their names are told apart
    told += sorted({_registered(_python(one).__code__.co_filename) for one in reached})
    if not exact:
        files = {_python(one).__code__.co_filename for one in reached}
        told += [source_stamp(), *sorted(map(_file_stamp, files))]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _python(function):
    return function.py_func if isinstance(function, Dispatcher) else function


@functools.cache
def _file_stamp(filename):
    try:
        return hashlib.sha256(Path(filename).read_bytes()).hexdigest()
    except OSError:  # of a console, say, where the bytecode has to do
        return ""


@functools.cache
def _registered(filename):
    """Hash of a file that tells Numba about types or functions by other ways than names; "" for other files."""
    try:
        return _file_stamp(filename) if _REGISTERS.search(Path(filename).read_bytes()) else ""
    except OSError:
        return ""


@functools.cache
def _looked(function):
    return _look(function)


def _look(function: Dispatcher | Callable) -> tuple[str, list, bool]:
    """What a function depends on, as a hash without the functions that it refers to; these; whether that is exact."""
    python, others, exact = _python(function), [], True
    told = [_code_parts(python.__code__)]
    cells = zip(python.__code__.co_freevars, python.__closure__ or (), strict=True)
    values = [(name, _content(cell)) for name, cell in cells]
    values += [(chain, _value(python.__globals__, chain)) for chain in _global_names(python.__code__)]
    values += [("defaults", python.__defaults__), ("keyword defaults", python.__kwdefaults__)]
    if isinstance(function, Dispatcher):
        values += [("options", function.targetoptions), ("locals", function.locals)]
        told.append(_compiler_parts(function._compiler.pipeline_class))
    for name, value in values:
        try:
            told.append((name, _parts(value, others)))
        except (ValueError, RecursionError):
            told.append((name, type(value).__qualname__, _files_of(value)))
            exact = False
    return hashlib.sha256(repr(told).encode()).hexdigest(), others, exact


def _compiler_parts(pipeline):
    """The name of a compiler of Numba's; the file of another one too."""
    return _name(pipeline), [] if _is_known(pipeline) else _files_of(pipeline)


def _files_of(value):
    """Hashes of the files that define an object and its class."""
    names = [getattr(value, "__module__", None), type(value).__module__]
    names += [value.__name__] if isinstance(value, types.ModuleType) else []
    files = [getattr(sys.modules.get(name), "__file__", None) for name in names if isinstance(name, str)]
    return [_file_stamp(file) for file in files if file]


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # an empty one, which Numba refuses to compile with
        return None


def _value(names, chain):
    """What `chain`, a name of a module and attributes that follow it in the bytecode, stands for: `fields`, `COLS`."""
    value = names.get(chain[0], _BUILTIN)
    for attribute in chain[1:]:
        if not isinstance(value, types.ModuleType):
            break
        value = getattr(value, attribute, None)
    return value


_BUILTIN = "a name of Python's own"


@functools.cache
def _global_names(code) -> tuple[tuple[str, ...], ...]:
    """The names that bytecode takes from its module, each with the attributes that it takes of it."""
    chains, inside = set(), False
    chain = []
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_ATTR", "LOAD_METHOD") and chain:
            chain.append(instruction.argval)
            continue
        if chain:
            chains.add(tuple(chain))
        chain = [instruction.argval] if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") else []
        inside |= instruction.opname.startswith("IMPORT_")
    if inside:
        chains.add(("__loader__",))  # an import inside the function: a value that cannot be told
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            chains.update(_global_names(inner))
    return tuple(sorted(chains))


def _code_parts(code):
    """All of a code object but where it stands in its file."""
    names = code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    return code.co_code, code.co_exceptiontable, names, counts, [_constant(value) for value in code.co_consts]


def _constant(value):
    if isinstance(value, types.CodeType):
        return _code_parts(value)
    if isinstance(value, frozenset):  # whose order is another one in each process
        return sorted(map(repr, value))
    return repr(value)


def _parts(value, others):
    """Text and tuples of text that tell a value exactly. Functions are appended to `others`. Raises ValueError."""
    if value is None or value is Ellipsis or type(value) in (bool, int, float, complex, str, bytes):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return _name(type(value)), tuple(_parts(one, others) for one in value)
    if type(value) is dict:
        return "dict", tuple((_parts(key, others), _parts(one, others)) for key, one in value.items())
    if type(value) in (set, frozenset):
        return "set", tuple(sorted(repr(_parts(one, others)) for one in value))
    if isinstance(value, np.dtype):
        return _dtype_parts(value)
    if type(value) is np.ndarray and not value.dtype.hasobject:
        layout = value.shape, value.strides, value.flags.writeable, value.flags.aligned
        return _dtype_parts(value.dtype), layout, hashlib.sha256(value.tobytes()).hexdigest()
    if isinstance(value, enum.Enum):
        return _name(type(value)), value.name, _parts(value.value, others)
    if isinstance(value, np.generic) and not value.dtype.hasobject:
        return _name(type(value)), _dtype_parts(value.dtype), value.tobytes().hex()
    if isinstance(value, _Intrinsic):  # a Python function that writes LLVM code
        value = value._defn
    if isinstance(value, (Dispatcher, types.FunctionType)) and not _is_known(_python(value)):
        others.append(value)
        return "function", len(others)
    if isinstance(value, type) and not _is_known(value):
        if issubclass(value, enum.Enum):
            return _name(value), tuple(_parts(member, others) for member in value)
        if issubclass(value, tuple) and hasattr(value, "_fields") and value.__bases__ == (tuple,):
            return _name(value), value._fields, _parts(value._field_defaults, others)
    return _known_parts(value)


def _known_parts(value):
    """The name of something that the versions of Python, Numba and NumPy tell. Raises ValueError for others."""
    if isinstance(value, types.ModuleType):
        if value.__name__.partition(".")[0] in _KNOWN:
            return value.__name__
    elif isinstance(value, numba.types.Type):
        if _is_known(type(value)):
            return _name(type(value)), repr(value)
    elif isinstance(value, np.ufunc):
        if getattr(np, value.__name__, None) is value:
            return "ufunc", value.__name__
    elif _is_known(_python(value)):
        owner = getattr(value, "__self__", None)  # of a method; of a function in C it is its module
        if owner is None or isinstance(owner, types.ModuleType):
            return _name(_python(value))
    raise ValueError(f"{type(value)}: its content cannot be told")


def _is_known(value):
    """Whether this is a function or class of Python's library, Numba or NumPy, which has a module and a name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    return isinstance(module, str) and isinstance(name, str) and module.partition(".")[0] in _KNOWN


def _name(value):
    return f"{value.__module__}.{value.__qualname__}"


def _dtype_parts(dtype):
    """All of a dtype. Its `repr` would hide alignment in nested records."""
    if dtype.subdtype is not None:
        return "subarray", _dtype_parts(dtype.subdtype[0]), dtype.subdtype[1]
    if dtype.names is None:
        return dtype.str, dtype.isalignedstruct
    fields = tuple((name, _dtype_parts(dtype.fields[name][0]), dtype.fields[name][1:]) for name in dtype.names)
    return dtype.itemsize, dtype.isalignedstruct, fields
