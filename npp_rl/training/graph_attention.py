"""Attention over the incoming edges of typed nodes (Hu et al. 2020).

The compiled kernels see the features of a node as [dim, heads], so that a vector holds all heads of one dimension.
"""

import functools
import math

import numpy as np
import torch
from numba import prange

from npp_rl.simulator.compiled import kernel, njit
from npp_rl.training.compiled_layers import PART, as_arrays, compile_for
from npp_rl.training.graph_tables import (
    PackedGraphs,
    by_graph,
    by_node,
    by_type,
    masked_softmax,
    part_count,
    typed_linear,
)
from npp_rl.training.graph_vectors import (
    add_outer,
    add_product,
    fma,
    load,
    mul,
    softmax,
    splat,
    store,
    sub,
    to_dim_heads,
    to_heads_dim,
)


@kernel(forceinline=True)
def _attend(begin, end, q, projection, kinds, source, w, prior, asked, dots, attn, heads, dim):
    """dots, and attn before the softmax, of a node's edges of one type."""
    asked[:] = 0
    add_product(w, q, asked, heads, dim)
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
    add_product(w, sums, mixed, heads, dim)


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
    weighted_grad,
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
    """Add the gradients that come from a node's edges of one type. weighted_grad: sum of attn times its gradient."""
    d_sums[:] = 0
    d_asked[:] = 0
    add_product(w[1], d_mixed, d_sums, heads, dim)
    add_outer(sums, d_mixed, d_w[1], heads, dim)
    for e in range(begin, end):
        s = np.uint32(source[e])
        kind, row, d_row = np.uint64(kinds[s]), projection[s], d_projection[s]
        a, d_attn = load(attn[e], 0, heads), splat(np.float32(0), heads)
        for d in range(dim):
            d_sum, i = load(d_sums, d * heads, heads), (2 * dim + d) * heads
            d_attn = fma(d_sum, load(row, i, heads), d_attn)
            store(d_row, i, fma(d_sum, a, load(d_row, i, heads)))
        d_logit = mul(a, sub(d_attn, weighted_grad))
        store(d_prior[kind], 0, fma(d_logit, load(dots[e], 0, heads), load(d_prior[kind], 0, heads)))
        d_dot = mul(d_logit, mul(load(prior[kind], 0, heads), splat(np.float32(1 / math.sqrt(dim)), heads)))
        for d in range(dim):
            i = (dim + d) * heads
            store(d_asked, d * heads, fma(d_dot, load(row, i, heads), load(d_asked, d * heads, heads)))
            store(d_row, i, fma(d_dot, load(asked, d * heads, heads), load(d_row, i, heads)))
    add_product(w[0], d_asked, d_q, heads, dim)
    add_outer(d_asked, q, d_w[0], heads, dim)


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
            softmax(attn, first[t], first[t + 1], heads)
            mixed[t] = 0
            for r in range(2):
                begin, end = (second[t], first[t + 1]) if r else (first[t], second[t])
                if begin < end:
                    _collect(begin, end, projection, source, w[r, 1], attn, sums[t, r], mixed[t], heads, dim)
            to_heads_dim(mixed[t], out[t], heads, dim)

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
                        to_dim_heads(d_out[t], d_mixed, heads, dim)
                        weighted_grad = splat(np.float32(0), heads)
                        for d in range(dim):
                            h, d_h = load(mixed[t], d * heads, heads), load(d_mixed, d * heads, heads)
                            weighted_grad = fma(h, d_h, weighted_grad)
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
                                    weighted_grad,
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
        attention_kernels(heads, dim)[0](*as_arrays((projection, *edges, w, mu, out, mixed, dots, attn, asked, sums)))
        ctx.save_for_backward(projection, w_edge, mu, mixed, dots, attn, asked, sums)
        ctx.graphs = graphs
        return out

    @staticmethod
    def backward(ctx, d_out):
        projection, w_edge, mu, *saved = ctx.saved_tensors
        heads, dim, graphs, parts = *w_edge.shape[2:4], ctx.graphs, part_count(ctx.graphs)
        w = torch.stack((w_edge[:, 0].permute(0, 3, 2, 1), w_edge[:, 1].permute(0, 2, 3, 1)), 1).flatten(2)
        scratch, d_projection = mu.new_empty(parts, 3, heads * dim), torch.empty_like(projection)
        d_w, d_mu = mu.new_empty(parts, *w.shape), mu.new_empty(parts, *mu.shape)
        edges = graphs.kinds, graphs.first, graphs.second, graphs.source
        tensors = projection, *edges, w, mu, *saved, graphs.span, d_out.contiguous(), scratch, d_projection, d_w, d_mu
        attention_kernels(heads, dim)[1](*as_arrays(tensors))
        d_w_edge = d_w.sum(0).unflatten(2, (dim, dim, heads)).permute(0, 1, 4, 2, 3)
        return d_projection, d_w_edge, d_mu.sum(0), None


def _dense_attention(projection, mu, graphs):
    heads, (batch, nodes) = mu.shape[-1], graphs.row.shape
    q, k1, v1, k2, v2 = by_graph(projection, graphs).view(batch, nodes, 5, heads, -1).permute(2, 0, 3, 1, 4)
    k, v = torch.cat((k1, k2), 2), torch.cat((v1, v2), 2)  # (B, heads, 2 N, dim): edge types one after the other
    prior = by_node(by_node(mu, graphs).transpose(0, 2), graphs)  # (N of the target, 2, N of the source, heads)
    prior = prior.permute(3, 0, 1, 2).flatten(2)  # (heads, N, 2 N)
    logits = (q @ k.transpose(2, 3)).float() * (prior / math.sqrt(q.shape[3]))  # (B, heads, N, 2 N)
    attn = masked_softmax(logits, graphs.edges.flatten(2).unsqueeze(1))
    return by_type((attn.to(v.dtype) @ v).transpose(1, 2).flatten(2), graphs)


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
