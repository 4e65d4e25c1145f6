"""Numba compilation with a disk cache whose key is the content of all that a function calls and reads.

Numba's own cache notices an edit of the file that a function is in, but not of a callee in another file, and it ignores
the bounds-check setting. Here each function has a stamp, which stamps.py describes. An edit recompiles the functions
that call what was edited, and no others. A cache file that is cut, overwritten or of another stamp counts as missing.
Where no cache can be written, nothing is cached, which is said once.
"""

import contextlib
import functools
import hashlib
import os
import pickle
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler
from numba.core.registry import CPUDispatcher

from npp_rl.simulator.stamps import function_stamp

_functions = []  # what `njit` has made, without kernels


class _CacheFile(IndexDataCacheFile):
    """One file for each signature, named after it, which begins with a hash of the stamp and of its content.

    Numba's own index with numbered files is not used: two processes that compile at once mix up each other's numbers.
    """

    def __init__(self, cache_path, filename_base, function):
        super().__init__(cache_path, filename_base, source_stamp=None)
        self._function = function
        # Without the number of the function's line, which changes with those above it.
        self._base = re.sub(r"-\d+(?=\.py\d)", "", filename_base)

    def _path(self, key):
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return Path(self._data_path(f"{self._base}.{name}.nbc"))

    def _stamp(self, key):
        """The function's stamp; "" where it does not tell all, as with functions among the arguments."""
        return "" if re.search("Dispatcher|Function", repr(key[0])) else function_stamp(self._function)

    def save(self, key, data):
        if stamp := self._stamp(key):
            content = self._dump((key, data))
            with self._open_for_write(self._path(key)) as f:
                f.write(_digest(stamp, content) + content)

    def load(self, key):
        try:
            content = self._path(key).read_bytes()
        except OSError:
            return None
        stamp = self._stamp(key)
        if not stamp or content[:32] != _digest(stamp, content[32:]):
            return None
        saved, data = pickle.loads(content[32:])
        return data if saved == key else None


def _digest(stamp, content):
    return hashlib.sha256(stamp.encode() + content).digest()


class _PackageCache(FunctionCache):
    def __init__(self, function):
        super().__init__(function.py_func)
        self._cache_file = _CacheFile(self._cache_path, self._impl.filename_base, function)

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError as error:  # a full disk, or a folder that has become read-only
            self.disable()
            _say_uncached(f"{self.cache_path}: {error.strerror}")


_warned = False


def _say_uncached(reason):
    """Say, once for all functions, that compiled code is not kept."""
    global _warned
    if not _warned and sys.stderr:
        text = "every start compiles the simulator anew, which takes a minute or two (set NUMBA_CACHE_DIR to a folder)"
        print(f"warning: compiled code is not kept, {text}: {reason}", file=sys.stderr)
    _warned = True


def njit(function=None, **options):
    """`numba.njit` with the cache described above and IEEE division; arithmetic is exact unless `fastmath` is given."""
    if function is None:
        return functools.partial(njit, **options)
    dispatcher = numba.njit(error_model="numpy", **options)(function)
    try:
        dispatcher._cache = _PackageCache(dispatcher)
    except RuntimeError:  # Numba's "no locator available"; the dispatcher keeps its cache that stores nothing
        _say_uncached("no folder for it can be written")
    _functions.append(dispatcher)
    return dispatcher


class _KernelLibrary(JITCodeLibrary):
    """LLVM code of a kernel, neither optimized nor translated into machine code.

    The functions that Python calls link it, with all kernels below it, and optimize all of that together. Numba would
    optimize and translate each kernel with all below it, and so the lowest ones again and again.
    """

    def _optimize_final_module(self):
        pass

    def _finalize_final_module(self):
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name):
        self._ensure_finalized()
        return 0  # Numba's word for none

    def serialize_using_object_code(self):
        return self.serialize_using_bitcode()

    @property
    def codegen(self):
        return _WithoutAddresses(self._codegen)


class _WithoutAddresses:
    """Numba's code generator for something that has no machine code, and so no address to write to."""

    def __init__(self, codegen):
        self._codegen = codegen

    def __getattr__(self, name):
        return getattr(self._codegen, name)

    def set_env(self, name, env):
        pass


class _KernelCompiler(Compiler):
    def compile_extra(self, func):
        self.state.library = _KernelLibrary(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)


class _KernelCache(_PackageCache):
    class _impl_class(CompileResultCacheImpl):
        def rebuild(self, target_context, payload):
            codegen = target_context.codegen()
            codegen._library_class = _KernelLibrary
            try:
                return super().rebuild(target_context, payload)
            finally:
                del codegen._library_class


class _Kernel(CPUDispatcher):
    def __call__(self, *args, **kwargs):
        raise TypeError(f"{self.py_func.__name__} is a kernel: only compiled functions can call it")


def kernel(function=None, **options):
    """`njit` for functions that only compiled functions call, and that neither make nor return arrays.

    They compile faster without machine code of their own, and run faster without reference counts. Numba counts
    references of every array that a function is given or takes from a tuple, with atomic instructions, which take half
    of the time of small functions. The caller's own reference keeps the arrays alive.
    """
    if function is None:
        return functools.partial(kernel, **options)
    options |= {"_nrt": False, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    if "fastmath" in options:  # its sums depend on how it is optimized
        dispatcher = njit(function, **options)
    else:
        dispatcher = njit(function, **options, pipeline_class=_KernelCompiler)
        if isinstance(dispatcher._cache, _PackageCache):
            dispatcher._cache = _KernelCache(dispatcher)
    dispatcher.__class__ = _Kernel
    _functions.pop()
    return dispatcher


class _OnlyCompiled(CPUDispatcher):
    def __call__(self, *args):
        if _chosen(self.py_func.__name__):
            self.compile(tuple(map(self.typeof_pyval, args)))


@contextlib.contextmanager
def only_compiling(chosen: Callable[[str], bool]):
    """Context in which functions are not called: `chosen`(name) are compiled for their arguments, or taken from the
    cache, and others are skipped.

    All of them return None and write nothing. Calls from one compiled function to another are as ever.
    """
    global _chosen
    _chosen = chosen
    functions = list(_functions)
    for function in functions:
        function.__class__ = _OnlyCompiled
    try:
        yield
    finally:
        for function in functions:
            function.__class__ = CPUDispatcher


def _chosen(name):
    return False


_forked = False  # from a process with GNU OpenMP threads


def _note_fork():
    global _forked
    try:
        _forked = numba.threading_layer() == "omp"
    except ValueError:  # the parent has no threads yet, so this process can have its own
        _forked = False


os.register_at_fork(after_in_child=_note_fork)


def serial(rows: int) -> bool:
    """Whether a loop over so many rows has to run without threads.

    One row needs none, so a process that plays one game can still fork. A forked process must not use the threads of
    its parent: Numba ends it ("fork() called from a process already using GNU OpenMP").
    """
    return rows == 1 or _forked
