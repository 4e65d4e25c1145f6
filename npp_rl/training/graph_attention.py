"""Linear maps by node type, attention and sums over incoming edges, and readout: what the graph layers consist of.

CPUs run compiled loops over the edges. Gathering the features of all edges into tensors takes several times as long.
GPUs run padded graphs with dense matrices over all pairs of a graph's nodes, masked where there is no edge. Products of
small matrices are fast on GPUs. The gradient of a gather is slow there if its order of additions must be deterministic.

The compiled kernels see the features of a node as [dim, heads], so that a vector holds all heads of one dimension.
"""

import contextlib
import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from numba import prange, types
from torch import nn

from npp_rl.simulator.compiled import kernel, njit
from npp_rl.training.graph_vectors import (
    add,
    div,
    exp,
    fma,
    load,
    maximum,
    maximum_or_nan,
    mul,
    splat,
    step,
    store,
    sub,
)

FAST = {"reassoc", "contract", "arcp", "nsz"}  # allows sums in any order, but keeps infinities and NaN
LANES = 16  # most numbers in a vector of features that belong to no heads
PART = 8  # graphs whose gradients of a layer's weights are added up one after the other, whatever the threads
NEGATIVE_SLOPE = 0.2  # LeakyReLU's slope in additive attention (Velickovic et al. 2018, section 2.1)


class PackedGraphs(NamedTuple):
    """A batch of B graphs with their nodes in one table of M rows, sorted by type, then by graph, then by slot."""

    slots: torch.Tensor  # int64 [M]: graph * N + node of each row
    row: torch.Tensor  # int64 [B, N]: the row of each node, -1 for no node
    kinds: torch.Tensor  # int64 [M]: type of each row
    counts: list[int]  # rows of each type
    lists: tuple[torch.Tensor, ...]  # int16 [B, N, k] per edge type: distinct source nodes of a node's edges, -1: none
    # Without padding, int32: rows span[i, b] to span[i, b + 1] have type i and belong to graph b. Edges first[t] to
    # first[t + 1] lead to row t, those of the first type before second[t]. Edge e comes from row source[e].
    span: torch.Tensor | None = None
    first: torch.Tensor | None = None
    second: torch.Tensor | None = None
    source: torch.Tensor | None = None
    # With padding: nodes per type, and edges float32 [B, N, edge types, N], 1 at [b, t, r, s] for an edge from s to t.
    type_slots: tuple[int, ...] | None = None
    edges: torch.Tensor | None = None


def compile_for(function, arrays):
    """Compile for arrays such as "f2 l1 i1": float32 with 2 dimensions, int64 and int32 with one. All are contiguous.

    A backward kernel is so compiled with its forward kernel, before an update needs it.
    """
    dtypes = {"f": types.float32, "l": types.int64, "i": types.int32, "u": types.uint32}
    function.compile(tuple(types.Array(dtypes[word[0]], int(word[1]), "C") for word in arrays.split()))


@njit
def _pack_nodes(mask, type_slots, slots, row, kinds, span, every):
    graphs, nodes = mask.shape
    m, before = 0, 0
    for i in range(len(type_slots)):
        for b in range(graphs):
            span[i, b] = m
            for n in range(before, before + type_slots[i]):
                row[b, n] = -1
                if mask[b, n]:
                    row[b, n] = m
                if mask[b, n] or every:
                    slots[m] = b * nodes + n
                    kinds[m] = i
                    m += 1
        span[i, graphs] = m
        before += type_slots[i]
    return m


@njit
def _pack_edges(slots, row, lists, first, second, source):
    nodes = row.shape[1]
    e = 0
    for t in range(len(slots)):
        first[t] = second[t] = e
        b, n = slots[t] // nodes, slots[t] % nodes
        for r in range(len(lists) if row[b, n] >= 0 else 0):
            for m in lists[r][b, n]:
                if m >= 0 and row[b, m] >= 0:
                    source[e] = row[b, m]
                    e += 1
            if r == 0:
                second[t] = e
    first[len(slots)] = e
    return e


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


def runs_compiled(x) -> bool:
    """Whether compiled kernels, which compute in float32, take the place of torch operations on a tensor."""
    plain = _pad_on_cpus or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling()
    return x.device.type == "cpu" and not plain


def pack_graphs(
    mask,
    adjacent,
    reachable,
    type_slots: list[int],
    every: bool = False,
    self_loops: bool = False,
    padded: bool | None = None,
) -> PackedGraphs:
    """Pack the observations `graph_node_mask` uint8 [B, N], `graph_adjacent` and `graph_reachable` into tables.

    type_slots: slots per node type. every: make rows for empty slots too, so that M, and so the rounding of matrix
    products, does not depend on the graphs. self_loops: give each node exactly one edge to itself, of a third edge
    type. padded: make rows for every slot and store edges as dense matrices. Default: on GPUs, and in `padded_graphs`.
    """
    batch, nodes = mask.shape
    lists = adjacent.contiguous(), reachable.contiguous()
    if self_loops:
        own = torch.arange(nodes, dtype=adjacent.dtype, device=mask.device)[:, None].repeat(batch, 1, 1)
        lists = (*(edges.masked_fill(edges == own, -1) for edges in lists), own)
    if padded or (padded is None and (_pad_on_cpus or mask.device.type != "cpu")):
        table = torch.arange(batch * nodes, device=mask.device).view(batch, nodes)
        slots = torch.cat([part.flatten() for part in table.split(type_slots, 1)])
        row = torch.empty_like(slots).index_copy_(0, slots, table.flatten())
        row = row.view(batch, nodes).masked_fill(mask == 0, -1)
        counts = [batch * count for count in type_slots]
        kinds = torch.cat([slots.new_full((count,), i) for i, count in enumerate(counts)])
        sources = torch.arange(nodes, device=mask.device)
        edges = torch.stack([(edges.unsqueeze(3) == sources).any(2) for edges in lists], 2)  # (B, N, edge types, N)
        exists = mask > 0
        edges = edges & exists[:, :, None, None] & exists[:, None, None, :]
        return PackedGraphs(slots, row, kinds, counts, lists, type_slots=tuple(type_slots), edges=edges.float())
    slots, row, kinds = np.empty((3, batch * nodes), np.int64)
    row = row.reshape(batch, nodes)
    span = np.empty((len(type_slots), batch + 1), np.int32)
    rows = _pack_nodes(mask.numpy(), np.array(type_slots), slots, row, kinds, span, every)
    arrays = tuple(edges.numpy() for edges in lists)
    source = np.empty(rows * sum(edges.shape[2] for edges in arrays), np.int32)
    first, second = np.empty((2, rows + 1), np.int32)
    edges = _pack_edges(slots[:rows], row, arrays, first, second, source)
    counts = (span[:, -1] - span[:, 0]).tolist()
    packed = slots[:rows], row, kinds[:rows], span, first, second[:rows], source[:edges]
    slots, row, kinds, *compiled = (torch.from_numpy(array) for array in packed)
    return PackedGraphs(slots, row, kinds, counts, lists, *compiled)


def _arrays(tensors):
    return (tensor.detach().numpy() for tensor in tensors)


def _parts(x, counts, weights):
    """(type, rows of x, weight [in, out], bias [out]) of each type with nodes; weights as in `typed_linear`."""
    first = 0
    for i, count in enumerate(counts):
        if count and len(weights) == 1:
            yield i, slice(first, first + count), weights[0][i, :-1], weights[0][i, -1]
        elif count:
            yield i, slice(first, first + count), weights[2 * i].t(), weights[2 * i + 1]
        first += count


class _TypedLinear(torch.autograd.Function):
    """`typed_linear` without a tensor and a node of autograd for each type."""

    @staticmethod
    def forward(ctx, x, counts, residual, kept, *weights):
        ctx.counts = counts
        ctx.save_for_backward(x, residual, kept, *weights)
        out = x.new_empty(len(x), weights[0].shape[-1] if len(weights) == 1 else len(weights[0]))
        shares = kept.split(1) if kept is not None else (None,) * len(counts)
        for i, rows, weight, bias in _parts(x, counts, weights):
            if residual is None:
                torch.addmm(bias, x[rows], weight, out=out[rows])
            else:
                torch.addcmul(bias, residual[rows], shares[i], out=out[rows]).addmm_(x[rows], weight)
        return out

    @staticmethod
    def backward(ctx, d_out):
        x, residual, kept, *weights = ctx.saved_tensors
        d_out = d_out.contiguous()
        d_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        d_residual, d_kept = (None, None) if residual is None else (torch.empty_like(residual), torch.zeros_like(kept))
        d_weights = [torch.zeros_like(weight) for weight in weights]
        parts = zip(_parts(x, ctx.counts, weights), _parts(x, ctx.counts, d_weights), strict=True)
        for (i, rows, weight, _), (_, _, d_weight, d_bias) in parts:
            d_rows = d_out[rows]
            torch.mm(x[rows].t(), d_rows, out=d_weight)
            torch.sum(d_rows, 0, out=d_bias)
            if d_x is not None:
                torch.mm(d_rows, weight.t(), out=d_x[rows])
            if residual is not None:
                torch.mul(d_rows, kept[i], out=d_residual[rows])
                d_kept[i] = torch.dot(d_rows.flatten(), residual[rows].flatten())
        return d_x, None, d_residual, d_kept, *d_weights


def typed_linear(x, graphs: PackedGraphs, *weights, residual=None, kept=None):
    """Map rows [M, in] by the weights of their node type -> [M, out].

    weights: one tensor [types, in + 1, out], bias last; or a weight [out, in] and a bias [out] of each type. residual
    [M, out], kept [types]: the result is the map's plus residual times kept.
    """
    if graphs.span is not None and runs_compiled(x):
        return _TypedLinear.apply(x, graphs.counts, residual, kept, *weights)
    if len(weights) == 1:
        pairs = [(weight[:-1], weight[-1]) for weight in weights[0]]
    else:
        pairs = [(weight.t(), bias) for weight, bias in zip(weights[::2], weights[1::2], strict=True)]
    parts = zip(x.split(graphs.counts), pairs, strict=True)
    out = torch.cat([torch.addmm(bias, part, weight) for part, (weight, bias) in parts])
    if residual is None:
        return out
    parts = zip(kept[:, None], graphs.counts, strict=True)
    return torch.addcmul(out, residual, torch.cat([part.expand(count, 1) for part, count in parts]))


@kernel(forceinline=True)
def _softmax(attn, begin, end, heads):
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
def _to_dim_heads(x, y, heads, dim):
    """Features x [heads * dim] -> y [dim * heads]."""
    for h in range(heads):
        for d in range(dim):
            y[d * heads + h] = x[h * dim + d]


@kernel(forceinline=True)
def _to_heads_dim(x, y, heads, dim):
    for h in range(heads):
        for d in range(dim):
            y[h * dim + d] = x[d * heads + h]


@kernel(forceinline=True)
def _add_product(w, x, y, heads, dim):
    """y [dim, heads] += W x for w [dim of y, dim of x, heads]."""
    for c in range(dim):
        z = load(y, c * heads, heads)
        for d in range(dim):
            z = fma(load(w, (c * dim + d) * heads, heads), load(x, d * heads, heads), z)
        store(y, c * heads, z)


@kernel(forceinline=True)
def _add_outer(y, x, w, heads, dim):
    """w [dim of y, dim of x, heads] += y x."""
    for c in range(dim):
        z = load(y, c * heads, heads)
        for d in range(dim):
            i = (c * dim + d) * heads
            store(w, i, fma(z, load(x, d * heads, heads), load(w, i, heads)))


@kernel(forceinline=True)
def _attend(begin, end, q, projection, kinds, source, w, prior, asked, dots, attn, heads, dim):
    """dots, and attn before the softmax, of a node's edges of one type."""
    asked[:] = 0
    _add_product(w, q, asked, heads, dim)
    for e in range(begin, end):
        s = np.uint32(source[e])
        k, dot = projection[s, heads * dim :], splat(np.float32(0), heads)
        for d in range(dim):
            dot = fma(load(asked, d * heads, heads), load(k, d * heads, heads), dot)
        dot = mul(dot, splat(np.float32(1 / math.sqrt(dim)), heads))
        store(dots[e], 0, dot)
        store(attn[e], 0, mul(dot, load(prior[np.uint64(kinds[s])], 0, heads)))


@kernel(forceinline=True)
def _collect(begin, end, projection, source, w, attn, sums, mixed, heads, dim):
    """sums, and their part of mixed, of a node's edges of one type."""
    sums[:] = 0
    for e in range(begin, end):
        v, a = projection[np.uint32(source[e]), 2 * heads * dim :], load(attn[e], 0, heads)
        for d in range(dim):
            store(sums, d * heads, fma(a, load(v, d * heads, heads), load(sums, d * heads, heads)))
    _add_product(w, sums, mixed, heads, dim)


@kernel(forceinline=True)
def _back(
    begin,
    end,
    q,
    projection,
    kinds,
    source,
    w,
    prior,
    dots,
    attn,
    asked,
    sums,
    mean,
    d_mixed,
    d_sums,
    d_asked,
    d_q,
    d_projection,
    d_w,
    d_prior,
    heads,
    dim,
):
    """Add the gradients that come from a node's edges of one type. mean: sum of attn times its gradient."""
    d_sums[:] = 0
    d_asked[:] = 0
    _add_product(w[1], d_mixed, d_sums, heads, dim)
    _add_outer(sums, d_mixed, d_w[1], heads, dim)
    for e in range(begin, end):
        s = np.uint32(source[e])
        kind, row, d_row = np.uint64(kinds[s]), projection[s], d_projection[s]
        a, d_attn = load(attn[e], 0, heads), splat(np.float32(0), heads)
        for d in range(dim):
            d_sum, i = load(d_sums, d * heads, heads), (2 * dim + d) * heads
            d_attn = fma(d_sum, load(row, i, heads), d_attn)
            store(d_row, i, fma(d_sum, a, load(d_row, i, heads)))
        d_logit = mul(a, sub(d_attn, mean))
        store(d_prior[kind], 0, fma(d_logit, load(dots[e], 0, heads), load(d_prior[kind], 0, heads)))
        d_dot = mul(d_logit, mul(load(prior[kind], 0, heads), splat(np.float32(1 / math.sqrt(dim)), heads)))
        for d in range(dim):
            i = (dim + d) * heads
            store(d_asked, d * heads, fma(d_dot, load(row, i, heads), load(d_asked, d * heads, heads)))
            store(d_row, i, fma(d_dot, load(asked, d * heads, heads), load(d_row, i, heads)))
    _add_product(w[0], d_asked, d_q, heads, dim)
    _add_outer(d_asked, q, d_w[0], heads, dim)


@functools.cache
def attention_kernels(heads: int, dim: int):
    """Compiled (forward, backward) of `attention`. With constant heads and dim, loops become vector instructions.

    Features are [dim, heads] but for `out` and its gradient; width is the product. The matrices of an edge type apply
    to a node once instead of to each of its edges: to q, and to the sum of attn v. That is equations 3 and 4 of Hu et
    al. 2020 in another order. PackedGraphs describes kinds, first, second, source and span. The others are float32:

    - projection [M, 3 * width]: q, k, v;
    - w [2, 2, dim * dim * heads]: attention and message matrices by edge type, as [out, in, heads];
    - mu [types, 2, types, heads]; out [M, width]: the result, [heads, dim]; mixed: the same as [dim, heads];
    - dots, attn [edges, heads]: q k / sqrt(dim), softmax;
    - asked, sums [M, 2, width] by edge type: q after its matrix, sum of attn v;
    - scratch [parts, 3, width]; d_w [parts, ...], d_mu [parts, ...]: gradients of PART graphs each.
    """

    @njit(parallel=True, _nrt=False)
    def forward(projection, kinds, first, second, source, w, mu, out, mixed, dots, attn, asked, sums):
        for t in prange(len(kinds)):
            for r in range(2):
                begin, end = (second[t], first[t + 1]) if r else (first[t], second[t])
                if begin < end:
                    q, prior = projection[t], mu[:, r, kinds[t]]
                    _attend(
                        begin, end, q, projection, kinds, source, w[r, 0], prior, asked[t, r], dots, attn, heads, dim
                    )
            _softmax(attn, first[t], first[t + 1], heads)
            mixed[t] = 0
            for r in range(2):
                begin, end = (second[t], first[t + 1]) if r else (first[t], second[t])
                if begin < end:
                    _collect(begin, end, projection, source, w[r, 1], attn, sums[t, r], mixed[t], heads, dim)
            _to_heads_dim(mixed[t], out[t], heads, dim)

    @njit(parallel=True, _nrt=False)
    def backward(
        projection,
        kinds,
        first,
        second,
        source,
        w,
        mu,
        mixed,
        dots,
        attn,
        asked,
        sums,
        span,
        d_out,
        scratch,
        d_projection,
        d_w,
        d_mu,
    ):
        for part in prange(len(d_mu)):  # edges stay within a graph, so no two threads add to the same row
            d_mixed, d_sums, d_asked = scratch[part, 0], scratch[part, 1], scratch[part, 2]
            d_w[part] = 0
            d_mu[part] = 0
            for b in range(part * PART, min(part * PART + PART, span.shape[1] - 1)):
                for i in range(span.shape[0]):
                    for t in range(span[i, b], span[i, b + 1]):
                        d_projection[t] = 0
                for i in range(span.shape[0]):
                    for t in range(span[i, b], span[i, b + 1]):
                        _to_dim_heads(d_out[t], d_mixed, heads, dim)
                        mean = splat(np.float32(0), heads)
                        for d in range(dim):
                            mean = fma(load(mixed[t], d * heads, heads), load(d_mixed, d * heads, heads), mean)
                        for r in range(2):
                            begin, end = (second[t], first[t + 1]) if r else (first[t], second[t])
                            if begin < end:
                                _back(
                                    begin,
                                    end,
                                    projection[t],
                                    projection,
                                    kinds,
                                    source,
                                    w[r],
                                    mu[:, r, i],
                                    dots,
                                    attn,
                                    asked[t, r],
                                    sums[t, r],
                                    mean,
                                    d_mixed,
                                    d_sums,
                                    d_asked,
                                    d_projection[t],
                                    d_projection,
                                    d_w[part, r],
                                    d_mu[part, :, r, i],
                                    heads,
                                    dim,
                                )

    compile_for(forward, "f2 l1 i1 i1 i1 f3 f4 f2 f2 f2 f2 f3 f3")
    compile_for(backward, "f2 l1 i1 i1 i1 f3 f4 f2 f2 f2 f3 f3 i2 f2 f3 f2 f4 f5")
    return forward, backward


def _parts_of(graphs):
    """Number of parts of PART graphs."""
    return -(-(graphs.span.shape[1] - 1) // PART)


class _CompiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, projection, w_edge, mu, graphs):
        heads, dim = w_edge.shape[2:4]
        rows, edges, width = len(projection), len(graphs.source), heads * dim
        # k W q = (W q) k with the attention matrix as it is; the message matrix applies from the right.
        w = torch.stack((w_edge[:, 0].permute(0, 2, 3, 1), w_edge[:, 1].permute(0, 3, 2, 1)), 1).flatten(2)
        out, mixed = projection.new_empty(2, rows, width)
        dots, attn = projection.new_empty(2, edges, heads)
        asked, sums = projection.new_empty(2, rows, 2, width)
        edges = graphs.kinds, graphs.first, graphs.second, graphs.source
        attention_kernels(heads, dim)[0](*_arrays((projection, *edges, w, mu, out, mixed, dots, attn, asked, sums)))
        ctx.save_for_backward(projection, w_edge, mu, mixed, dots, attn, asked, sums)
        ctx.graphs = graphs
        return out

    @staticmethod
    def backward(ctx, d_out):
        projection, w_edge, mu, *saved = ctx.saved_tensors
        heads, dim, graphs, parts = *w_edge.shape[2:4], ctx.graphs, _parts_of(ctx.graphs)
        w = torch.stack((w_edge[:, 0].permute(0, 3, 2, 1), w_edge[:, 1].permute(0, 2, 3, 1)), 1).flatten(2)
        scratch, d_projection = mu.new_empty(parts, 3, heads * dim), torch.empty_like(projection)
        d_w, d_mu = mu.new_empty(parts, *w.shape), mu.new_empty(parts, *mu.shape)
        edges = graphs.kinds, graphs.first, graphs.second, graphs.source
        tensors = projection, *edges, w, mu, *saved, graphs.span, d_out.contiguous(), scratch, d_projection, d_w, d_mu
        attention_kernels(heads, dim)[1](*_arrays(tensors))
        d_w_edge = d_w.sum(0).unflatten(2, (dim, dim, heads)).permute(0, 1, 4, 2, 3)
        return d_projection, d_w_edge, d_mu.sum(0), None


def _by_graph(rows, graphs):
    """Rows [M, C] of padded graphs -> [B, N, C]."""
    batch = graphs.row.shape[0]  # not len(), which a trace takes for a constant
    return torch.cat([part.view(batch, -1, rows.shape[1]) for part in rows.split(graphs.counts)], 1)


def _by_type(table, graphs):
    """Features [B, N, C] of padded graphs' nodes -> rows [M, C]."""
    return torch.cat([part.flatten(0, 1) for part in table.split(graphs.type_slots, 1)])


def _by_node(weights, graphs):
    """Weights [types, ...] -> [N, ...], the weights of each node's type."""
    parts = zip(weights.split(1), graphs.type_slots, strict=True)
    return torch.cat([part.expand(count, *weights.shape[1:]) for part, count in parts])


def _masked_softmax(logits, edges):
    """Softmax over the last dimension in float32. Entries are weighted by their number of edges; 0 without an edge."""
    lowest = torch.finfo(torch.float32).min
    logits = torch.where(edges > 0, logits.float() + edges.clamp(min=1).log(), lowest)
    return logits.softmax(-1) * (edges > 0)


def _dense_attention(projection, mu, graphs):
    heads, (batch, nodes) = mu.shape[-1], graphs.row.shape
    q, k1, v1, k2, v2 = _by_graph(projection, graphs).view(batch, nodes, 5, heads, -1).permute(2, 0, 3, 1, 4)
    k, v = torch.cat((k1, k2), 2), torch.cat((v1, v2), 2)  # (B, heads, 2 N, dim): edge types one after the other
    prior = _by_node(_by_node(mu, graphs).transpose(0, 2), graphs)  # (N of the target, 2, N of the source, heads)
    prior = prior.permute(3, 0, 1, 2).flatten(2)  # (heads, N, 2 N)
    logits = (q @ k.transpose(2, 3)).float() * (prior / math.sqrt(q.shape[3]))  # (B, heads, N, 2 N)
    attn = _masked_softmax(logits, graphs.edges.flatten(2).unsqueeze(1))
    return _by_type((attn.to(v.dtype) @ v).transpose(1, 2).flatten(2), graphs)


def attention(x, qkv, w_edge, mu, graphs: PackedGraphs):
    """Sum of v over each node's incoming edges, weighted by the softmax of q k mu / sqrt(dim) over these edges.

    x [M, in]. qkv [3, types, in + 1, heads, dim]: maps from x to q, k and v by node type, bias last. w_edge [2, 2,
    heads, dim, dim]: matrices for k and for v by edge type. mu float32 [types, 2, types, heads]: prior of source type,
    edge type and target type. Returns [M, heads * dim], which is 0 for a node without edges. One softmax covers the
    edges of both types.
    """
    if graphs.span is not None:
        maps = qkv.permute(1, 2, 0, 4, 3).flatten(2)  # (types, in + 1, 3 * dim * heads)
        projection = typed_linear(x, graphs, maps).float().contiguous()
        return _CompiledAttention.apply(projection, w_edge, mu, graphs)
    k_and_v = torch.einsum("atchd,rahde->tcrahe", qkv[1:], w_edge)  # equations 3 and 4 combined
    maps = torch.cat([qkv[0].flatten(2), k_and_v.flatten(2)], 2)  # (types, in + 1, 5 * heads * dim)
    return _dense_attention(typed_linear(x, graphs, maps), mu, graphs)


@functools.cache
def additive_attention_kernels(heads: int, dim: int):
    """Compiled (forward, backward) of `additive_attention`, as in `attention_kernels`.

    projection [M, 2 * width]: sender, receiver, each [dim, heads]. a [dim * heads]; d_a [parts, dim * heads].
    """
    width = heads * dim
    slope = np.float32(NEGATIVE_SLOPE)

    @njit(parallel=True, _nrt=False)
    def forward(projection, first, source, a, out, mixed, attn):
        for t in prange(len(out)):
            receiver, h_t = projection[t, width:], mixed[t]
            for e in range(first[t], first[t + 1]):
                sender, logit = projection[np.uint32(source[e])], splat(np.float32(0), heads)
                for i in range(0, width, heads):
                    z = add(load(sender, i, heads), load(receiver, i, heads))
                    logit = fma(load(a, i, heads), maximum(z, mul(z, splat(slope, heads))), logit)
                store(attn[e], 0, logit)
            _softmax(attn, first[t], first[t + 1], heads)
            h_t[:] = 0
            for e in range(first[t], first[t + 1]):
                sender, share = projection[np.uint32(source[e])], load(attn[e], 0, heads)
                for i in range(0, width, heads):
                    store(h_t, i, fma(share, load(sender, i, heads), load(h_t, i, heads)))
            _to_heads_dim(h_t, out[t], heads, dim)

    @njit(parallel=True, _nrt=False)
    def backward(projection, first, source, a, mixed, attn, span, d_out, scratch, d_projection, d_a):
        for part in prange(len(d_a)):  # edges stay within a graph, so no two threads add to the same row
            d_h, d_logits = scratch[part], d_a[part]
            d_logits[:] = 0
            for b in range(part * PART, min(part * PART + PART, span.shape[1] - 1)):
                for kind in range(span.shape[0]):
                    for t in range(span[kind, b], span[kind, b + 1]):
                        d_projection[t] = 0
                for kind in range(span.shape[0]):
                    for t in range(span[kind, b], span[kind, b + 1]):
                        receiver, d_receiver, h_t = projection[t, width:], d_projection[t, width:], mixed[t]
                        _to_dim_heads(d_out[t], d_h, heads, dim)
                        mean = splat(np.float32(0), heads)  # sum of attn times its gradient
                        for i in range(0, width, heads):
                            mean = fma(load(d_h, i, heads), load(h_t, i, heads), mean)
                        for e in range(first[t], first[t + 1]):
                            s = np.uint32(source[e])
                            sender, d_sender, share = projection[s], d_projection[s], load(attn[e], 0, heads)
                            d_share = splat(np.float32(0), heads)
                            for i in range(0, width, heads):
                                d_share = fma(load(d_h, i, heads), load(sender, i, heads), d_share)
                            d_logit = mul(share, sub(d_share, mean))
                            for i in range(0, width, heads):
                                z = add(load(sender, i, heads), load(receiver, i, heads))
                                least = mul(z, splat(slope, heads))
                                store(d_logits, i, fma(d_logit, maximum(z, least), load(d_logits, i, heads)))
                                d_z = mul(d_logit, load(a, i, heads))
                                d_z = step(z, mul(d_z, splat(slope, heads)), d_z)
                                store(d_receiver, i, add(d_z, load(d_receiver, i, heads)))
                                d_z = fma(share, load(d_h, i, heads), d_z)
                                store(d_sender, i, add(d_z, load(d_sender, i, heads)))

    compile_for(forward, "f2 i1 i1 f1 f2 f2 f2")
    compile_for(backward, "f2 i1 i1 f1 f2 f2 i2 f2 f2 f2 f2")
    return forward, backward


class _CompiledAdditiveAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, projection, a, graphs):
        heads, dim = a.shape
        out, mixed = projection.new_empty(2, len(projection), heads * dim)
        attn = projection.new_empty(len(graphs.source), heads)
        inputs = projection, graphs.first, graphs.source, a.t().flatten()
        additive_attention_kernels(heads, dim)[0](*_arrays((*inputs, out, mixed, attn)))
        ctx.save_for_backward(projection, a, mixed, attn)
        ctx.graphs = graphs
        return out

    @staticmethod
    def backward(ctx, d_out):
        projection, a, mixed, attn = ctx.saved_tensors
        (heads, dim), graphs = a.shape, ctx.graphs
        d_projection, (scratch, d_a) = torch.empty_like(projection), a.new_empty(2, _parts_of(graphs), heads * dim)
        inputs = projection, graphs.first, graphs.source, a.t().flatten(), mixed, attn, graphs.span, d_out.contiguous()
        additive_attention_kernels(heads, dim)[1](*_arrays((*inputs, scratch, d_projection, d_a)))
        return d_projection, d_a.sum(0).view(dim, heads).t(), None


def _dense_additive_attention(projection, a, graphs):
    sender, receiver = _by_graph(projection, graphs).unflatten(2, (2, *a.shape)).unbind(2)  # (B, N, heads, dim)
    z = nn.functional.leaky_relu(sender.unsqueeze(1) + receiver.unsqueeze(2), NEGATIVE_SLOPE)
    logits = torch.einsum("btshd,hd->bhts", z, a)
    attn = _masked_softmax(logits, graphs.edges.sum(2).unsqueeze(1))
    return _by_type(torch.einsum("bhts,bshd->bthd", attn.to(sender.dtype), sender).flatten(2), graphs)


def additive_attention(x, weight, bias, a, graphs: PackedGraphs):
    """Sum of senders over each node's incoming edges, weighted by the softmax of a . LeakyReLU(sender + receiver).

    x [M, in]. weight [2 * heads * dim, in], bias [2 * heads * dim]: linear map to features as sender, then as receiver.
    a float32 [heads, dim]. Returns [M, heads * dim], which is 0 for a node without edges. One softmax covers the edges
    of all types.
    """
    if graphs.span is not None:
        weight, bias = (part.unflatten(0, (2, *a.shape)).transpose(1, 2).flatten(0, 2) for part in (weight, bias))
        projection = nn.functional.linear(x, weight, bias).float().contiguous()
        return _CompiledAdditiveAttention.apply(projection, a, graphs)
    return _dense_additive_attention(nn.functional.linear(x, weight, bias), a, graphs)


@functools.cache
def _sum_kernels(width: int):
    """Compiled (forward, backward) of `normalised_sum`."""
    lanes = math.gcd(width, LANES)

    @njit(parallel=True, _nrt=False)
    def forward(x, scale, first, source, out):
        for t in prange(len(out)):
            h_t = out[t]
            h_t[:] = 0
            for e in range(first[t], first[t + 1]):
                s = np.uint32(source[e])
                weight, sender = splat(scale[s] * scale[t], lanes), x[s]
                for d in range(0, width, lanes):
                    store(h_t, d, fma(weight, load(sender, d, lanes), load(h_t, d, lanes)))

    @njit(parallel=True, _nrt=False)
    def backward(d_out, scale, first, source, span, d_x):
        for b in prange(span.shape[1] - 1):  # edges stay within a graph, so no two threads add to the same row
            for i in range(span.shape[0]):
                for t in range(span[i, b], span[i, b + 1]):
                    d_x[t] = 0
            for i in range(span.shape[0]):
                for t in range(span[i, b], span[i, b + 1]):
                    d_h = d_out[t]
                    for e in range(first[t], first[t + 1]):
                        s = np.uint32(source[e])
                        weight, d_sender = splat(scale[s] * scale[t], lanes), d_x[s]
                        for d in range(0, width, lanes):
                            store(d_sender, d, fma(weight, load(d_h, d, lanes), load(d_sender, d, lanes)))

    compile_for(forward, "f2 f1 i1 i1 f2")
    compile_for(backward, "f2 f1 i1 i1 i2 f2")
    return forward, backward


class _CompiledSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, graphs):
        ctx.graphs, ctx.scale = graphs, graphs.first.diff().float().rsqrt()
        out = torch.empty_like(x)
        _sum_kernels(x.shape[1])[0](*_arrays((x, ctx.scale, graphs.first, graphs.source, out)))
        return out

    @staticmethod
    def backward(ctx, d_out):
        d_x = torch.empty_like(d_out, memory_format=torch.contiguous_format)
        graphs = ctx.graphs
        arrays = d_out.contiguous(), ctx.scale, graphs.first, graphs.source, graphs.span, d_x
        _sum_kernels(d_x.shape[1])[1](*_arrays(arrays))
        return d_x, None


def _dense_sum(x, graphs):
    edges = graphs.edges.sum(2)
    scale = edges.sum(2).clamp(min=1).rsqrt()
    weight = scale.unsqueeze(2) * edges * scale.unsqueeze(1)
    return _by_type(weight.to(x.dtype) @ _by_graph(x, graphs), graphs)


def normalised_sum(x, graphs: PackedGraphs):
    """Sum of x[source] / sqrt(degree[source] * degree[node]) over each node's incoming edges of all types.

    x [M, C] -> [M, C]. The degree is the number of incoming edges. `self_loops` of pack_graphs keeps it above 0.
    """
    if graphs.span is not None:
        return _CompiledSum.apply(x.float().contiguous(), graphs)
    return _dense_sum(x, graphs)


@functools.cache
def _readout_kernels(width: int):
    """Compiled (forward, backward) of `readout`."""
    lanes = math.gcd(width, LANES)

    @njit(parallel=True, _nrt=False)
    def forward(h, span, slots, row, out):
        places = row.reshape(-1)
        for b in prange(len(out)):
            out[b] = 0
            mean, nodes = out[b, 0], 0
            for i in range(span.shape[0]):
                most = out[b, 1 + i]
                for t in range(span[i, b], span[i, b + 1]):
                    if places[slots[t]] < 0:
                        continue
                    nodes += i == 0
                    for d in range(0, width, lanes):
                        x = load(h[t], d, lanes)
                        store(most, d, maximum_or_nan(load(most, d, lanes), x))
                        if i == 0:
                            x = maximum(splat(np.float32(0), lanes), x)
                            store(mean, d, add(x, load(mean, d, lanes)))
            share = splat(np.float32(1) / np.float32(max(nodes, 1)), lanes)
            for d in range(0, width, lanes):
                store(mean, d, mul(share, load(mean, d, lanes)))

    @njit(parallel=True, _nrt=False)
    def backward(h, span, slots, row, out, d_out, ties, d_h):
        places = row.reshape(-1)
        for b in prange(len(out)):
            zero, one, equal = splat(np.float32(0), lanes), splat(np.float32(1), lanes), ties[b]
            for i in range(span.shape[0]):
                most, d_most, nodes = out[b, 1 + i], d_out[b, 1 + i], 0
                equal[:] = 0
                for t in range(span[i, b], span[i, b + 1]):
                    if places[slots[t]] < 0:
                        continue
                    nodes += 1
                    for d in range(0, width, lanes):
                        below = sub(load(most, d, lanes), load(h[t], d, lanes))
                        store(equal, d, add(step(below, one, zero), load(equal, d, lanes)))
                share = splat(np.float32(1) / np.float32(max(nodes, 1)) if i == 0 else np.float32(0), lanes)
                for t in range(span[i, b], span[i, b + 1]):
                    exists = places[slots[t]] >= 0
                    for d in range(0, width, lanes):
                        x, d_x = load(h[t], d, lanes), zero
                        if exists:
                            below = sub(load(most, d, lanes), x)
                            d_x = step(below, div(load(d_most, d, lanes), load(equal, d, lanes)), zero)
                            d_x = step(x, zero, fma(share, load(d_out[b, 0], d, lanes), d_x))
                        store(d_h[t], d, d_x)

    compile_for(forward, "f2 i2 l1 l2 f3")
    compile_for(backward, "f2 i2 l1 l2 f3 f3 f2 f2")
    return forward, backward


class _CompiledReadout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, graphs):
        out = h.new_empty(len(graphs.row), 1 + len(graphs.counts), h.shape[1])
        _readout_kernels(h.shape[1])[0](*_arrays((h, graphs.span, graphs.slots, graphs.row, out)))
        ctx.save_for_backward(h, out)
        ctx.graphs = graphs
        return out.flatten(1)

    @staticmethod
    def backward(ctx, d_out):
        (h, out), graphs = ctx.saved_tensors, ctx.graphs
        d_h, ties = torch.empty_like(h), h.new_empty(len(out), h.shape[1])
        inputs = h, graphs.span, graphs.slots, graphs.row, out, d_out.contiguous().view_as(out), ties, d_h
        _readout_kernels(h.shape[1])[1](*_arrays(inputs))
        return d_h, None


def readout(h, graphs: PackedGraphs):
    """Mean of relu(h) over a graph's nodes of the first type, and its maximum over those of each type, 0 without any.

    h [M, C] -> [B, (1 + types) * C].
    """
    if graphs.span is not None:
        return _CompiledReadout.apply(h.float().contiguous(), graphs)
    table = h.new_zeros(graphs.row.numel(), h.shape[1]).index_copy(0, graphs.slots, torch.relu(h))
    table = table.view(*graphs.row.shape, -1).masked_fill(graphs.row.unsqueeze(2) < 0, 0)  # (B, N, C)
    first = graphs.type_slots[0]
    nodes = graphs.row[:, :first].ge(0).sum(1, keepdim=True).clamp(min=1)
    return torch.cat(
        [table[:, :first].sum(1) / nodes, *(part.amax(1) for part in table.split(graphs.type_slots, 1))], 1
    )
