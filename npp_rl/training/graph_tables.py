"""Graphs packed into one table of nodes, and what all graph layers need of it: maps by node type, sums, readout.

CPUs run compiled loops over the edges. Gathering the features of all edges into tensors takes several times as long.
GPUs run padded graphs with dense matrices over all pairs of a graph's nodes, masked where there is no edge. Products of
small matrices are fast on GPUs. The gradient of a gather is slow there if its order of additions must be deterministic.

Kernels index by np.uint32 or np.uint64, because Numba corrects signed indices that may be negative.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from numba import prange

from npp_rl.simulator.compiled import njit
from npp_rl.training.compiled_layers import PART, as_arrays, compile_for, pads, runs_compiled
from npp_rl.training.graph_vectors import (
    add,
    div,
    fma,
    load,
    maximum,
    maximum_or_nan,
    mul,
    select_positive,
    splat,
    store,
    sub,
)

LANES = 16  # most numbers in a vector of features that belong to no heads


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
    if padded or (padded is None and (pads() or mask.device.type != "cpu")):
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


def part_count(graphs):
    """Number of parts of PART graphs."""
    return -(-(graphs.span.shape[1] - 1) // PART)


def by_graph(rows, graphs):
    """Rows [M, C] of padded graphs -> [B, N, C]."""
    batch = graphs.row.shape[0]  # not len(), which a trace takes for a constant
    return torch.cat([part.view(batch, -1, rows.shape[1]) for part in rows.split(graphs.counts)], 1)


def by_type(table, graphs):
    """Features [B, N, C] of padded graphs' nodes -> rows [M, C]."""
    return torch.cat([part.flatten(0, 1) for part in table.split(graphs.type_slots, 1)])


def by_node(weights, graphs):
    """Weights [types, ...] -> [N, ...], the weights of each node's type."""
    parts = zip(weights.split(1), graphs.type_slots, strict=True)
    return torch.cat([part.expand(count, *weights.shape[1:]) for part, count in parts])


def masked_softmax(logits, edges):
    """Softmax over the last dimension in float32. Entries are weighted by their number of edges; 0 without an edge."""
    lowest = torch.finfo(torch.float32).min
    logits = torch.where(edges > 0, logits.float() + edges.clamp(min=1).log(), lowest)
    return logits.softmax(-1) * (edges > 0)


def _rows_by_type(counts, weights):
    """(type, its rows, weight [in, out], bias [out]) of each type with nodes; weights as in `typed_linear`."""
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
        for i, rows, weight, bias in _rows_by_type(counts, weights):
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
        parts = zip(_rows_by_type(ctx.counts, weights), _rows_by_type(ctx.counts, d_weights), strict=True)
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
        _sum_kernels(x.shape[1])[0](*as_arrays((x, ctx.scale, graphs.first, graphs.source, out)))
        return out

    @staticmethod
    def backward(ctx, d_out):
        d_x = torch.empty_like(d_out, memory_format=torch.contiguous_format)
        graphs = ctx.graphs
        arrays = d_out.contiguous(), ctx.scale, graphs.first, graphs.source, graphs.span, d_x
        _sum_kernels(d_x.shape[1])[1](*as_arrays(arrays))
        return d_x, None


def _dense_sum(x, graphs):
    edges = graphs.edges.sum(2)
    scale = edges.sum(2).clamp(min=1).rsqrt()
    weight = scale.unsqueeze(2) * edges * scale.unsqueeze(1)
    return by_type(weight.to(x.dtype) @ by_graph(x, graphs), graphs)


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
                        store(equal, d, add(select_positive(below, one, zero), load(equal, d, lanes)))
                share = splat(np.float32(1) / np.float32(max(nodes, 1)) if i == 0 else np.float32(0), lanes)
                for t in range(span[i, b], span[i, b + 1]):
                    exists = places[slots[t]] >= 0
                    for d in range(0, width, lanes):
                        x, d_x = load(h[t], d, lanes), zero
                        if exists:
                            below = sub(load(most, d, lanes), x)
                            d_x = select_positive(below, div(load(d_most, d, lanes), load(equal, d, lanes)), zero)
                            d_x = select_positive(x, zero, fma(share, load(d_out[b, 0], d, lanes), d_x))
                        store(d_h[t], d, d_x)

    compile_for(forward, "f2 i2 l1 l2 f3")
    compile_for(backward, "f2 i2 l1 l2 f3 f3 f2 f2")
    return forward, backward


class _CompiledReadout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, graphs):
        out = h.new_empty(len(graphs.row), 1 + len(graphs.counts), h.shape[1])
        _readout_kernels(h.shape[1])[0](*as_arrays((h, graphs.span, graphs.slots, graphs.row, out)))
        ctx.save_for_backward(h, out)
        ctx.graphs = graphs
        return out.flatten(1)

    @staticmethod
    def backward(ctx, d_out):
        (h, out), graphs = ctx.saved_tensors, ctx.graphs
        d_h, ties = torch.empty_like(h), h.new_empty(len(out), h.shape[1])
        inputs = h, graphs.span, graphs.slots, graphs.row, out, d_out.contiguous().view_as(out), ties, d_h
        _readout_kernels(h.shape[1])[1](*as_arrays(inputs))
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
