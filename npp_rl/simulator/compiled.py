"""Numba compilation with a disk cache that is keyed by the content of the whole package.

Numba's own cache notices an edit of the file that a function stands in, but not of a callee in another file, and it
ignores the bounds-check setting. Here the stamp of every cached function is a hash of all compiled source files and of
`NUMBA_BOUNDSCHECK`, so any edit recompiles everything that is asked for afterwards.
"""

import functools
import hashlib
from pathlib import Path

import numba
from numba.core import config
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.registry import CPUDispatcher

_PACKAGE = Path(__file__).resolve().parent.parent


@functools.cache
def source_stamp() -> str:
    """Hash (hex) of all Python files that hold compiled code, and of the bounds-check setting."""
    digest = hashlib.sha256(f"{numba.__version__} {config.BOUNDSCHECK}".encode())
    for path in sorted(_PACKAGE.rglob("*.py")):
        text = path.read_bytes()
        if path.parent.name == "simulator" or b"compiled import" in text:
            digest.update(path.relative_to(_PACKAGE).as_posix().encode() + text)
    return digest.hexdigest()


class _PackageCache(FunctionCache):
    def __init__(self, py_func):
        super().__init__(py_func)
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path, filename_base=self._impl.filename_base, source_stamp=source_stamp()
        )


def njit(function=None, **options):
    """`numba.njit` for exact arithmetic (no fastmath, IEEE division) with the cache described above."""
    if function is None:
        return functools.partial(njit, **options)
    dispatcher = numba.njit(error_model="numpy", **options)(function)
    dispatcher._cache = _PackageCache(dispatcher.py_func)
    return dispatcher


class _Kernel(CPUDispatcher):
    def __call__(self, *args, **kwargs):
        raise TypeError(f"{self.py_func.__name__} is a kernel: only compiled functions can call it")


def kernel(function=None, **options):
    """`njit` for functions that only compiled functions call, and that neither make nor return arrays.

    Without a wrapper for Python, which they could not be called without, they compile faster. And without reference counts they
    run faster: Numba counts the references of every array that a function is handed or takes from a tuple, with atomic
    instructions, which in small functions is half of the time. The caller's own reference keeps the arrays alive.
    """
    if function is None:
        return functools.partial(kernel, **options)
    dispatcher = njit(function, _nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)
    dispatcher.__class__ = _Kernel
    return dispatcher
