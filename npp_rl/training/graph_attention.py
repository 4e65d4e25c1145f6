"""Attention and sums over the incoming edges of graph nodes: the kernels of the graph layers.

CPUs run compiled loops over the edges. Gathering the features of all edges into tensors takes several times as long.
GPUs run padded graphs with dense matrices over all pairs of a graph's nodes, masked where there is no edge. Products of
small matrices are fast on GPUs. The gradient of a gather is slow there if its order of additions must be deterministic.
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

FAST = {"reassoc", "contract", "arcp", "nsz"}  # allows sums in any order, but keeps infinities and NaN
NEGATIVE_SLOPE = 0.2  # LeakyReLU's slope in additive attention (Velickovic et al. 2018, section 2.1)


class PackedGraphs(NamedTuple):
    """A batch of B graphs with their nodes in one table of M rows, sorted by type, then by graph, then by slot."""

    slots: torch.Tensor  # int64 [M]: graph * N + node of each row
    row: torch.Tensor  # int64 [B, N]: the row of each node, -1 for no node
    kinds: torch.Tensor  # int64 [M]: type of each row
    counts: list[int]  # rows of each type
    lists: tuple[torch.Tensor, ...]  # int16 [B, N, k] per edge type: distinct source nodes of a node's edges, -1: none
    # Without padding, int32: rows span[i, b] to span[i, b + 1] have type i and belong to graph b. Edges first[t] to
    # first[t + 1] lead to row t. Edge e comes from row source[e] and has type relation[e].
    span: torch.Tensor | None = None
    first: torch.Tensor | None = None
    source: torch.Tensor | None = None
    relation: torch.Tensor | None = None
    # With padding: nodes per type, and edges float32 [B, N, edge types, N], 1 at [b, t, r, s] for an edge from s to t.
    type_slots: tuple[int, ...] | None = None
    edges: torch.Tensor | None = None


def _compile(function, arrays):
    """Compile for arrays such as "f2 l1 i1": float32 with 2 dimensions, int64 and int32 with one. All are contiguous.

    A backward kernel is so compiled with its forward kernel, before an update needs it.
    """
    dtypes = {"f": types.float32, "l": types.int64, "i": types.int32}
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
def _pack_edges(slots, row, lists, first, source, relation):
    nodes = row.shape[1]
    e = 0
    for t in range(len(slots)):
        first[t] = e
        b, n = slots[t] // nodes, slots[t] % nodes
        for r in range(len(lists) if row[b, n] >= 0 else 0):
            for m in lists[r][b, n]:
                if m >= 0 and row[b, m] >= 0:
                    source[e] = row[b, m]
                    relation[e] = r
                    e += 1
    first[len(slots)] = e
    return e


_pad_on_cpus = False


@contextlib.contextmanager
def padded_graphs():
    """Context that pads graphs on CPUs too. Torch operations, which torch can count, then replace compiled loops."""
    global _pad_on_cpus
    before, _pad_on_cpus = _pad_on_cpus, True
    try:
        yield
    finally:
        _pad_on_cpus = before


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
    source, relation = np.empty((2, rows * sum(edges.shape[2] for edges in arrays)), np.int32)
    first = np.empty(rows + 1, np.int32)
    edges = _pack_edges(slots[:rows], row, arrays, first, source, relation)
    counts = (span[:, -1] - span[:, 0]).tolist()
    packed = slots[:rows], row, kinds[:rows], span, first, source[:edges], relation[:edges]
    slots, row, kinds, *compiled = (torch.from_numpy(array) for array in packed)
    return PackedGraphs(slots, row, kinds, counts, lists, *compiled)


@kernel(fastmath=FAST)
def _softmax(attn, begin, end):
    """Softmax in place over rows begin to end of attn [edges, heads], for each head."""
    for h in range(attn.shape[1]):
        top, total = np.float32(-np.inf), np.float32(0)
        for e in range(begin, end):
            top = max(top, attn[e, h])
        for e in range(begin, end):
            a = np.exp(attn[e, h] - top)
            attn[e, h] = a
            total += a
        share = np.float32(1) / total
        for e in range(begin, end):
            attn[e, h] *= share


@functools.cache
def attention_kernels(heads: int, dim: int):
    """Compiled (forward, backward) of `attention`. With constant heads and dim, loops become vector instructions.

    forward(projection, kinds, first, source, relation, mu, out, attn) writes its last two arguments. backward takes
    these and (d_out, span, d_projection, d_mu), and writes its last two. `attention` and PackedGraphs describe the
    arrays, except

    - attn float32 [edges, heads]: the softmax;
    - d_mu float32 [B, types, 2, types, heads]: one gradient per graph.
    """
    width = heads * dim
    scale = np.float32(1 / math.sqrt(dim))

    @njit(parallel=True, fastmath=FAST, _nrt=False)
    def forward(projection, kinds, first, source, relation, mu, out, attn):
        for t in prange(len(kinds)):
            q, h_t = projection[t], out[t]
            h_t[:] = 0
            for e in range(first[t], first[t + 1]):
                s, r = source[e], relation[e]
                k, prior = projection[s, (1 + 2 * r) * width :], mu[kinds[s], r, kinds[t]]
                for h in range(heads):
                    dot = np.float32(0)
                    for d in range(h * dim, h * dim + dim):
                        dot += q[d] * k[d]
                    attn[e, h] = dot * prior[h] * scale
            _softmax(attn, first[t], first[t + 1])
            for e in range(first[t], first[t + 1]):
                v = projection[source[e], (2 + 2 * relation[e]) * width :]
                for h in range(heads):
                    a = attn[e, h]
                    for d in range(h * dim, h * dim + dim):
                        h_t[d] += a * v[d]

    @njit(parallel=True, fastmath=FAST, _nrt=False)
    def backward(projection, kinds, first, source, relation, mu, out, attn, d_out, span, d_projection, d_mu):
        for b in prange(d_mu.shape[0]):  # edges stay within a graph, so no two threads add to the same row
            d_mu[b] = 0
            for i in range(span.shape[0]):
                for t in range(span[i, b], span[i, b + 1]):
                    d_projection[t] = 0
            for i in range(span.shape[0]):
                for t in range(span[i, b], span[i, b + 1]):
                    q, d_q, h_t, d_h = projection[t], d_projection[t], out[t], d_out[t]
                    for e in range(first[t], first[t + 1]):
                        s, r = source[e], relation[e]
                        k, v = projection[s, (1 + 2 * r) * width :], projection[s, (2 + 2 * r) * width :]
                        d_k, d_v = d_projection[s, (1 + 2 * r) * width :], d_projection[s, (2 + 2 * r) * width :]
                        prior, d_prior = mu[kinds[s], r, i], d_mu[b, kinds[s], r, i]
                        for h in range(heads):
                            a, d_a, dot = attn[e, h], np.float32(0), np.float32(0)
                            for d in range(h * dim, h * dim + dim):
                                d_a += d_h[d] * (v[d] - h_t[d])
                                dot += q[d] * k[d]
                            d_logit = a * d_a * scale
                            d_prior[h] += d_logit * dot
                            d_logit *= prior[h]
                            for d in range(h * dim, h * dim + dim):
                                d_v[d] += a * d_h[d]
                            for d in range(h * dim, h * dim + dim):
                                d_k[d] += d_logit * q[d]
                            for d in range(h * dim, h * dim + dim):
                                d_q[d] += d_logit * k[d]

    _compile(forward, "f2 l1 i1 i1 i1 f4 f2 f2")
    _compile(backward, "f2 l1 i1 i1 i1 f4 f2 f2 f2 i2 f2 f5")
    return forward, backward


def _arrays(tensors):
    return (tensor.detach().numpy() for tensor in tensors)


class _CompiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, projection, mu, graphs):
        heads, width = mu.shape[-1], projection.shape[1] // 5
        out = projection.new_empty(len(projection), width)
        attn = projection.new_empty(len(graphs.source), heads)
        ctx.save_for_backward(projection, graphs.kinds, graphs.first, graphs.source, graphs.relation, mu, out, attn)
        ctx.span = graphs.span
        attention_kernels(heads, width // heads)[0](*_arrays(ctx.to_save))
        return out

    @staticmethod
    def backward(ctx, d_out):
        *_, mu, out, attn = ctx.saved_tensors
        d_projection = torch.empty_like(ctx.saved_tensors[0])
        d_mu = mu.new_empty(ctx.span.shape[1] - 1, *mu.shape)
        tensors = (*ctx.saved_tensors, d_out.contiguous(), ctx.span, d_projection, d_mu)
        attention_kernels(attn.shape[1], out.shape[1] // attn.shape[1])[1](*_arrays(tensors))
        return d_projection, d_mu.sum(0), None


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


def attention(projection, mu, graphs: PackedGraphs):
    """Sum of v over each node's incoming edges, weighted by the softmax of q k mu / sqrt(dim) over these edges.

    projection [M, 5 C]: q, then k and v for edges of the first type, then k and v for edges of the second type.
    mu float32 [types, 2, types, heads]: prior of source type, edge type and target type. Returns [M, C], which is 0 for
    a node without edges. One softmax covers the edges of both types.
    """
    if graphs.span is not None:
        return _CompiledAttention.apply(projection.float().contiguous(), mu, graphs)
    return _dense_attention(projection, mu, graphs)


@functools.cache
def additive_attention_kernels(heads: int, dim: int):
    """Compiled (forward, backward) of `additive_attention`, as in `attention_kernels`; d_a float32 [B, C] per graph."""
    width = heads * dim
    slope = np.float32(NEGATIVE_SLOPE)

    @njit(parallel=True, fastmath=FAST, _nrt=False)
    def forward(projection, first, source, a, out, attn):
        for t in prange(len(out)):
            receiver, h_t = projection[t, width:], out[t]
            h_t[:] = 0
            for e in range(first[t], first[t + 1]):
                sender = projection[source[e]]
                for h in range(heads):
                    logit = np.float32(0)
                    for d in range(h * dim, h * dim + dim):
                        z = sender[d] + receiver[d]
                        logit += a[d] * max(z, slope * z)
                    attn[e, h] = logit
            _softmax(attn, first[t], first[t + 1])
            for e in range(first[t], first[t + 1]):
                sender = projection[source[e]]
                for h in range(heads):
                    share = attn[e, h]
                    for d in range(h * dim, h * dim + dim):
                        h_t[d] += share * sender[d]

    @njit(parallel=True, fastmath=FAST, _nrt=False)
    def backward(projection, first, source, a, out, attn, d_out, span, d_projection, d_a):
        for b in prange(len(d_a)):  # edges stay within a graph, so no two threads add to the same row
            d_logits = d_a[b]
            d_logits[:] = 0
            for i in range(span.shape[0]):
                for t in range(span[i, b], span[i, b + 1]):
                    d_projection[t] = 0
            for i in range(span.shape[0]):
                for t in range(span[i, b], span[i, b + 1]):
                    receiver, d_receiver, h_t, d_h = projection[t, width:], d_projection[t, width:], out[t], d_out[t]
                    for e in range(first[t], first[t + 1]):
                        sender, d_sender = projection[source[e]], d_projection[source[e]]
                        for h in range(heads):
                            share, d_share = attn[e, h], np.float32(0)
                            for d in range(h * dim, h * dim + dim):
                                d_share += d_h[d] * (sender[d] - h_t[d])
                            d_logit = share * d_share
                            for d in range(h * dim, h * dim + dim):
                                z = sender[d] + receiver[d]
                                d_logits[d] += d_logit * max(z, slope * z)
                            for d in range(h * dim, h * dim + dim):
                                d_z = d_logit * a[d] * (np.float32(1) if sender[d] + receiver[d] > 0 else slope)
                                d_receiver[d] += d_z
                                d_sender[d] += d_z + share * d_h[d]

    _compile(forward, "f2 i1 i1 f1 f2 f2")
    _compile(backward, "f2 i1 i1 f1 f2 f2 f2 i2 f2 f2")
    return forward, backward


class _CompiledAdditiveAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, projection, a, graphs):
        out = projection.new_empty(len(projection), a.numel())
        attn = projection.new_empty(len(graphs.source), len(a))
        ctx.save_for_backward(projection, graphs.first, graphs.source, a.flatten(), out, attn)
        ctx.span, ctx.shape = graphs.span, a.shape
        additive_attention_kernels(*a.shape)[0](*_arrays(ctx.to_save))
        return out

    @staticmethod
    def backward(ctx, d_out):
        projection, *_, a, _, _ = ctx.saved_tensors
        d_projection, d_a = torch.empty_like(projection), a.new_empty(ctx.span.shape[1] - 1, len(a))
        tensors = (*ctx.saved_tensors, d_out.contiguous(), ctx.span, d_projection, d_a)
        additive_attention_kernels(*ctx.shape)[1](*_arrays(tensors))
        return d_projection, d_a.sum(0).view(ctx.shape), None


def _dense_additive_attention(projection, a, graphs):
    sender, receiver = _by_graph(projection, graphs).unflatten(2, (2, *a.shape)).unbind(2)  # (B, N, heads, dim)
    z = nn.functional.leaky_relu(sender.unsqueeze(1) + receiver.unsqueeze(2), NEGATIVE_SLOPE)
    logits = torch.einsum("btshd,hd->bhts", z, a)
    attn = _masked_softmax(logits, graphs.edges.sum(2).unsqueeze(1))
    return _by_type(torch.einsum("bhts,bshd->bthd", attn.to(sender.dtype), sender).flatten(2), graphs)


def additive_attention(projection, a, graphs: PackedGraphs):
    """Sum of senders over each node's incoming edges, weighted by the softmax of a . LeakyReLU(sender + receiver).

    projection [M, 2 C]: features as sender, then as receiver. a float32 [heads, dim]. Returns [M, C], which is 0 for a
    node without edges. One softmax covers the edges of all types.
    """
    if graphs.span is not None:
        return _CompiledAdditiveAttention.apply(projection.float().contiguous(), a, graphs)
    return _dense_additive_attention(projection, a, graphs)


@njit(parallel=True, fastmath=FAST, _nrt=False)
def _sum_forward(x, scale, first, source, out):
    for t in prange(len(out)):
        h_t = out[t]
        h_t[:] = 0
        for e in range(first[t], first[t + 1]):
            weight, sender = scale[source[e]] * scale[t], x[source[e]]
            for d in range(len(h_t)):
                h_t[d] += weight * sender[d]


@njit(parallel=True, fastmath=FAST, _nrt=False)
def _sum_backward(d_out, scale, first, source, span, d_x):
    for b in prange(span.shape[1] - 1):  # edges stay within a graph, so no two threads add to the same row
        for i in range(span.shape[0]):
            for t in range(span[i, b], span[i, b + 1]):
                d_x[t] = 0
        for i in range(span.shape[0]):
            for t in range(span[i, b], span[i, b + 1]):
                d_h = d_out[t]
                for e in range(first[t], first[t + 1]):
                    weight, d_sender = scale[source[e]] * scale[t], d_x[source[e]]
                    for d in range(len(d_h)):
                        d_sender[d] += weight * d_h[d]


@functools.cache
def _sum_kernels():
    """Compiled (forward, backward) of `normalised_sum`."""
    _compile(_sum_forward, "f2 f1 i1 i1 f2")
    _compile(_sum_backward, "f2 f1 i1 i1 i2 f2")
    return _sum_forward, _sum_backward


class _CompiledSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, graphs):
        ctx.graphs, ctx.scale = graphs, graphs.first.diff().float().rsqrt()
        out = torch.empty_like(x)
        _sum_kernels()[0](*_arrays((x, ctx.scale, graphs.first, graphs.source, out)))
        return out

    @staticmethod
    def backward(ctx, d_out):
        d_x = torch.empty_like(d_out, memory_format=torch.contiguous_format)
        graphs = ctx.graphs
        arrays = d_out.contiguous(), ctx.scale, graphs.first, graphs.source, graphs.span, d_x
        _sum_kernels()[1](*_arrays(arrays))
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
