"""Vectors of float32 in compiled kernels, as instructions of the processor.

LLVM must assume that arrays which a kernel reads and writes overlap, so it turns few of a graph layer's short loops
into vector instructions. Here a kernel names its vectors. A vector has a fixed number of lanes: heads of a graph layer,
features of a node or channels of a convolution. No sum runs across lanes. LLVM splits or pads vectors to the registers
of a processor.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

from npp_rl.simulator.compiled import kernel

ANY_ORDER = ("reassoc", "contract")  # sums in any order, and a product and a sum in one instruction


class Vector(types.Type):
    """Numba's type of vectors of float32."""

    def __init__(self, lanes: int):
        self.lanes = lanes
        super().__init__(name=f"Vector({lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, ir.VectorType(ir.FloatType(), vector.lanes))


def _pointer(context, builder, signature, args, kind):
    """Pointer to vectors of an LLVM type `kind` from the first two arguments, an array and an index."""
    index = context.cast(builder, args[1], signature.args[1], types.intp)
    data = context.make_array(signature.args[0])(context, builder, args[0]).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


@intrinsic(prefer_literal=True)
def load(typing, array, index, lanes):
    """Elements index to index + lanes of a contiguous array, as a vector. lanes: a constant."""
    vector = Vector(lanes.literal_value)

    def build(context, builder, signature, args):
        pointer = _pointer(context, builder, signature, args, context.get_value_type(vector))
        return builder.load(pointer, align=4)

    return vector(array, index, lanes), build


@intrinsic
def store(typing, array, index, vector):
    """Write a vector to elements index to index + lanes of a contiguous array."""

    def build(context, builder, signature, args):
        builder.store(args[2], _pointer(context, builder, signature, args, args[2].type), align=4)
        return context.get_dummy_value()

    return types.void(array, index, vector), build


@intrinsic(prefer_literal=True)
def splat(typing, x, lanes):
    """A vector of equal elements. lanes: a constant."""
    vector = Vector(lanes.literal_value)

    def build(context, builder, signature, args):
        kind = context.get_value_type(vector)
        nothing = ir.Constant(kind, ir.Undefined)
        x = context.cast(builder, args[0], signature.args[0], types.float32)
        first = builder.insert_element(nothing, x, ir.IntType(32)(0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.lanes), [0] * vector.lanes)
        return builder.shuffle_vector(first, nothing, zeros)

    return vector(x, lanes), build


def _of_vectors(operation):
    """An intrinsic of vectors from the function (builder, LLVM values) -> LLVM value of a vector."""

    def build(context, builder, signature, args):
        return operation(builder, *args)

    return lambda vector, others: (vector(vector, *others), build)


@intrinsic
def add(typing, a, b):
    return _of_vectors(lambda builder, a, b: builder.fadd(a, b, flags=ANY_ORDER))(a, (b,))


@intrinsic
def sub(typing, a, b):
    return _of_vectors(lambda builder, a, b: builder.fsub(a, b, flags=ANY_ORDER))(a, (b,))


@intrinsic
def mul(typing, a, b):
    return _of_vectors(lambda builder, a, b: builder.fmul(a, b, flags=ANY_ORDER))(a, (b,))


@intrinsic
def div(typing, a, b):
    return _of_vectors(lambda builder, a, b: builder.fdiv(a, b))(a, (b,))


@intrinsic
def maximum(typing, a, b):
    """The greater of a and b; b where one is NaN."""
    return _of_vectors(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))(a, (b,))


@intrinsic
def maximum_or_nan(typing, a, b):
    """The greater of a and b; NaN where one of them is NaN."""

    def operation(builder, a, b):
        greater = builder.select(builder.fcmp_ordered(">", a, b), a, b)  # b where one is NaN
        return builder.select(builder.fcmp_unordered("uno", a, a), a, greater)

    return _of_vectors(operation)(a, (b,))


@intrinsic
def select_positive(typing, x, low, high):
    """high where x is above 0, else low."""

    def operation(builder, x, low, high):
        above = builder.fcmp_ordered(">", x, ir.Constant(x.type, [0.0] * x.type.count))
        return builder.select(above, high, low)

    return _of_vectors(operation)(x, (low, high))


@intrinsic
def _floor(typing, x):
    def operation(builder, x):
        kind = ir.FunctionType(x.type, [x.type])
        floor = builder.module.declare_intrinsic(f"llvm.floor.v{x.type.count}f32", fnty=kind)
        return builder.call(floor, [x])

    return _of_vectors(operation)(x, ())


@intrinsic
def _exp2(typing, n):
    """2 to the power of whole numbers from -126 to 127: the bits of a float32's exponent."""

    def operation(builder, n):
        whole = ir.VectorType(ir.IntType(32), n.type.count)
        bias, place = (ir.Constant(whole, [number] * n.type.count) for number in (127, 23))
        return builder.bitcast(builder.shl(builder.add(builder.fptosi(n, whole), bias), place), n.type)

    return _of_vectors(operation)(n, ())


@kernel(forceinline=True)
def fma(a, b, c):
    """a * b + c."""
    return add(mul(a, b), c)


@kernel(forceinline=True)
def exp(x, lanes):
    """exp of numbers of at most 0, with a relative error of at most 2e-7; below -87 it is exp(-87), 1e-38.

    From the C library Cephes (Moshier, https://www.netlib.org/cephes, expf): x = n ln 2 + r, and a polynomial of r.
    """
    x = maximum(splat(np.float32(-87.0), lanes), x)  # NaN stays
    half = splat(np.float32(0.5), lanes)
    n = _floor(fma(x, splat(np.float32(1.44269504088896341), lanes), half))
    x = fma(n, splat(np.float32(-0.693359375), lanes), x)
    x = fma(n, splat(np.float32(2.12194440e-4), lanes), x)
    y = fma(splat(np.float32(1.9875691500e-4), lanes), x, splat(np.float32(1.3981999507e-3), lanes))
    y = fma(y, x, splat(np.float32(8.3334519073e-3), lanes))
    y = fma(y, x, splat(np.float32(4.1665795894e-2), lanes))
    y = fma(y, x, splat(np.float32(1.6666665459e-1), lanes))
    y = fma(y, x, splat(np.float32(5.0000001201e-1), lanes))
    y = add(fma(y, mul(x, x), x), splat(np.float32(1.0), lanes))
    return mul(y, _exp2(n))


@kernel(forceinline=True)
def softmax(attn, begin, end, heads):
    """Softmax in place over rows begin to end of attn [edges, heads], for each head."""
    if begin == end:
        return
    top = load(attn[begin], 0, heads)
    for e in range(begin + 1, end):
        top = maximum(load(attn[e], 0, heads), top)
    total = splat(np.float32(0), heads)
    for e in range(begin, end):
        a = exp(sub(load(attn[e], 0, heads), top), heads)
        store(attn[e], 0, a)
        total = add(total, a)
    share = div(splat(np.float32(1), heads), total)
    for e in range(begin, end):
        store(attn[e], 0, mul(load(attn[e], 0, heads), share))


@kernel(forceinline=True)
def to_dim_heads(x, y, heads, dim):
    """Features x [heads * dim] -> y [dim * heads]."""
    for h in range(heads):
        for d in range(dim):
            y[d * heads + h] = x[h * dim + d]


@kernel(forceinline=True)
def to_heads_dim(x, y, heads, dim):
    for h in range(heads):
        for d in range(dim):
            y[h * dim + d] = x[d * heads + h]


@kernel(forceinline=True)
def add_product(w, x, y, heads, dim):
    """y [dim, heads] += W x for w [dim of y, dim of x, heads]."""
    for c in range(dim):
        z = load(y, c * heads, heads)
        for d in range(dim):
            z = fma(load(w, (c * dim + d) * heads, heads), load(x, d * heads, heads), z)
        store(y, c * heads, z)


@kernel(forceinline=True)
def add_outer(y, x, w, heads, dim):
    """w [dim of y, dim of x, heads] += y x."""
    for c in range(dim):
        z = load(y, c * heads, heads)
        for d in range(dim):
            i = (c * dim + d) * heads
            store(w, i, fma(z, load(x, d * heads, heads), load(w, i, heads)))
