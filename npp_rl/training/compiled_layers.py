"""What layers with compiled kernels share: when kernels take the place of torch operations, and how they compile."""

import contextlib

import torch
from numba import types

PART = 8  # graphs whose gradients of a layer's weights are added up one after the other, whatever the threads


def compile_for(function, arrays):
    """Compile for arrays such as "f2 l1 i1": float32 with 2 dimensions, int64 and int32 with one. All are contiguous.

    A backward kernel is so compiled with its forward kernel, before an update needs it.
    """
    dtypes = {"f": types.float32, "l": types.int64, "i": types.int32, "u": types.uint32}
    function.compile(tuple(types.Array(dtypes[word[0]], int(word[1]), "C") for word in arrays.split()))


_pad_on_cpus = False


@contextlib.contextmanager
def padded_graphs():
    """Context that pads graphs on CPUs too. Torch operations, which torch can count, then replace compiled kernels."""
    global _pad_on_cpus
    before, _pad_on_cpus = _pad_on_cpus, True
    try:
        yield
    finally:
        _pad_on_cpus = before


def pads() -> bool:
    """Whether graphs are padded on CPUs too."""
    return _pad_on_cpus


def runs_compiled(x) -> bool:
    """Whether compiled kernels, which compute in float32, take the place of torch operations on a tensor."""
    plain = _pad_on_cpus or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    return x.device.type == "cpu" and not plain


def as_arrays(tensors):
    """The tensors, which are on a CPU, as NumPy arrays that share their memory."""
    return (tensor.detach().numpy() for tensor in tensors)
