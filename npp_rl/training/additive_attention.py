"""Additive attention over incoming edges (GATv2, Brody et al. 2022), with features as in graph_attention.py."""

import functools

import numpy as np
import torch
from numba import prange
from torch import nn

from npp_rl.simulator.compiled import njit
from npp_rl.training.compiled_layers import PART, as_arrays, compile_for
from npp_rl.training.graph_tables import PackedGraphs, by_graph, by_type, masked_softmax, part_count
from npp_rl.training.graph_vectors import (
    add,
    fma,
    load,
    maximum,
    mul,
    select_positive,
    softmax,
    splat,
    store,
    sub,
    to_dim_heads,
    to_heads_dim,
)

NEGATIVE_SLOPE = 0.2  # LeakyReLU's slope in additive attention (Velickovic et al. 2018, section 2.1)


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
            softmax(attn, first[t], first[t + 1], heads)
            h_t[:] = 0
            for e in range(first[t], first[t + 1]):
                sender, share = projection[np.uint32(source[e])], load(attn[e], 0, heads)
                for i in range(0, width, heads):
                    store(h_t, i, fma(share, load(sender, i, heads), load(h_t, i, heads)))
            to_heads_dim(h_t, out[t], heads, dim)

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
                        to_dim_heads(d_out[t], d_h, heads, dim)
                        weighted_grad = splat(np.float32(0), heads)  # sum of attn times its gradient
                        for i in range(0, width, heads):
                            weighted_grad = fma(load(d_h, i, heads), load(h_t, i, heads), weighted_grad)
                        for e in range(first[t], first[t + 1]):
                            s = np.uint32(source[e])
                            sender, d_sender, share = projection[s], d_projection[s], load(attn[e], 0, heads)
                            d_share = splat(np.float32(0), heads)
                            for i in range(0, width, heads):
                                d_share = fma(load(d_h, i, heads), load(sender, i, heads), d_share)
                            d_logit = mul(share, sub(d_share, weighted_grad))
                            for i in range(0, width, heads):
                                z = add(load(sender, i, heads), load(receiver, i, heads))
                                least = mul(z, splat(slope, heads))
                                store(d_logits, i, fma(d_logit, maximum(z, least), load(d_logits, i, heads)))
                                d_z = mul(d_logit, load(a, i, heads))
                                d_z = select_positive(z, mul(d_z, splat(slope, heads)), d_z)
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
        additive_attention_kernels(heads, dim)[0](*as_arrays((*inputs, out, mixed, attn)))
        ctx.save_for_backward(projection, a, mixed, attn)
        ctx.graphs = graphs
        return out

    @staticmethod
    def backward(ctx, d_out):
        projection, a, mixed, attn = ctx.saved_tensors
        (heads, dim), graphs = a.shape, ctx.graphs
        d_projection, (scratch, d_a) = torch.empty_like(projection), a.new_empty(2, part_count(graphs), heads * dim)
        inputs = projection, graphs.first, graphs.source, a.t().flatten(), mixed, attn, graphs.span, d_out.contiguous()
        additive_attention_kernels(heads, dim)[1](*as_arrays((*inputs, scratch, d_projection, d_a)))
        return d_projection, d_a.sum(0).view(dim, heads).t(), None


def _dense_additive_attention(projection, a, graphs):
    sender, receiver = by_graph(projection, graphs).unflatten(2, (2, *a.shape)).unbind(2)  # (B, N, heads, dim)
    z = nn.functional.leaky_relu(sender.unsqueeze(1) + receiver.unsqueeze(2), NEGATIVE_SLOPE)
    logits = torch.einsum("btshd,hd->bhts", z, a)
    attn = masked_softmax(logits, graphs.edges.sum(2).unsqueeze(1))
    return by_type(torch.einsum("bhts,bshd->bthd", attn.to(sender.dtype), sender).flatten(2), graphs)


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
