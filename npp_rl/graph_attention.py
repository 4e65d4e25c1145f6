"""Attention over the incoming edges of graph nodes, the one operation of the graph layers that no library has.

On CPUs it is compiled here: gathering the keys and values of all edges into tensors takes several times as long.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
import torch
from numba import prange

from npp_rl.simulator.compiled import njit


class PackedGraphs(NamedTuple):
    """A batch of B graphs whose nodes stand in one table of M rows, type after type, node after node."""

    slots: torch.Tensor  # int64 [M]: what stands in each row, as node * B + graph
    row: torch.Tensor  # int64 [N, B]: the row of each node, -1 for no node
    counts: list[int]  # rows of each type
    kinds: torch.Tensor  # int64 [N]: type of each node
    edges: tuple[
        torch.Tensor, torch.Tensor
    ]  # int16 [B, N, k] by edge type: sources of a node's edges, -1 after the last


def pack_graphs(mask, adjacent, reachable, type_slots) -> PackedGraphs:
    """The graphs of `graph_node_mask` uint8 [B, N], `graph_adjacent`, `graph_reachable`; type_slots: nodes per type.

    On a CPU the rows are nodes only; on other devices padding too, so that all sizes are fixed.
    """
    mask, device = mask.T.contiguous() > 0, mask.device
    if device.type == "cpu":
        slots = mask.flatten().nonzero().squeeze(1)
        counts = [int(part.sum()) for part in mask.split(type_slots)]
    else:
        slots = torch.arange(mask.numel(), device=device)
        counts = [mask.shape[1] * count for count in type_slots]
    row = torch.full((mask.numel(),), -1, device=device)
    row[slots] = torch.arange(len(slots), device=device)
    kinds = torch.repeat_interleave(torch.arange(len(type_slots)), torch.tensor(type_slots)).to(device)
    row = row.view(mask.shape).masked_fill(~mask, -1)
    return PackedGraphs(slots, row, counts, kinds, (adjacent.contiguous(), reachable.contiguous()))


@functools.cache
def attention_kernels(heads: int, dim: int):
    """Compiled (forward, backward) for this many heads of this size; loops of known length become vector instructions.

    forward(projection, row, lists, kinds, mu, out, attn) writes the last two arguments,
    backward(projection, row, lists, kinds, mu, out, attn, d_out, d_projection, d_mu) the last two. C is heads * dim.

    - projection f4 [M, 5 C]: of each node q, then k and v for edges of the first type, then those for the second;
    - row i4 [N, B]: where node n of graph b stands in `projection`, -1 for no node;
    - lists: i2 [B, N, slots] for each of the two edge types: the nodes that its edges come from, -1 after the last;
    - kinds i8 [N]: node types; mu f4 [types, 2, types, heads]: prior of source type, edge type, target type;
    - out f4 [M, C]: the sum of v over the incoming edges, weighted by attn, 0 for a node without edges;
    - attn f4 [M, all slots, heads]: the softmax of q k mu / sqrt(dim) over all incoming edges, of both types together;
    - d_mu f4 [B, types, 2, types, heads], by graph.
    """
    width = heads * dim
    scale = np.float32(1 / math.sqrt(dim))

    @njit(parallel=True, fastmath=True, _nrt=False)
    def forward(projection, row, lists, kinds, mu, out, attn):
        for b in prange(row.shape[1]):
            for n in range(row.shape[0]):
                t = row[n, b]
                if t < 0:
                    continue
                q, h_t, weight = projection[t], out[t], attn[t]
                h_t[:] = 0
                edges = 0
                for r in range(2):
                    for m in lists[r][b, n]:
                        if m < 0:
                            break
                        s = row[m, b]
                        if s < 0:
                            continue
                        k, prior = projection[s, (1 + 2 * r) * width : (2 + 2 * r) * width], mu[kinds[m], r, kinds[n]]
                        for h in range(heads):
                            dot = np.float32(0)
                            for d in range(h * dim, h * dim + dim):
                                dot += q[d] * k[d]
                            weight[edges, h] = dot * prior[h] * scale
                        edges += 1
                if edges == 0:
                    continue
                for h in range(heads):
                    top, total = weight[0, h], np.float32(0)
                    for e in range(1, edges):
                        top = max(top, weight[e, h])
                    for e in range(edges):
                        weight[e, h] = np.exp(weight[e, h] - top)
                        total += weight[e, h]
                    for e in range(edges):
                        weight[e, h] /= total
                edges = 0
                for r in range(2):
                    for m in lists[r][b, n]:
                        if m < 0:
                            break
                        s = row[m, b]
                        if s < 0:
                            continue
                        v = projection[s, (2 + 2 * r) * width : (3 + 2 * r) * width]
                        for h in range(heads):
                            for d in range(h * dim, h * dim + dim):
                                h_t[d] += weight[edges, h] * v[d]
                        edges += 1

    @njit(parallel=True, fastmath=True, _nrt=False)
    def backward(projection, row, lists, kinds, mu, out, attn, d_out, d_projection, d_mu):
        for b in prange(row.shape[1]):  # edges stay within a graph, so no two threads add to the same row
            d_mu[b] = 0
            for n in range(row.shape[0]):
                if row[n, b] >= 0:
                    d_projection[row[n, b]] = 0
            for n in range(row.shape[0]):
                t = row[n, b]
                if t < 0:
                    continue
                q, d_q, h_t, d_h, weight = projection[t], d_projection[t], out[t], d_out[t], attn[t]
                edges = 0
                for r in range(2):
                    for m in lists[r][b, n]:
                        if m < 0:
                            break
                        s = row[m, b]
                        if s < 0:
                            continue
                        k, v = (1 + 2 * r) * width, (2 + 2 * r) * width
                        source, d_source = projection[s], d_projection[s]
                        prior, d_prior = mu[kinds[m], r, kinds[n]], d_mu[b, kinds[m], r, kinds[n]]
                        for h in range(heads):
                            a, d_a, dot = weight[edges, h], np.float32(0), np.float32(0)
                            for d in range(h * dim, h * dim + dim):
                                d_a += d_h[d] * (source[v + d] - h_t[d])
                                dot += q[d] * source[k + d]
                            d_logit = a * d_a * scale
                            d_prior[h] += d_logit * dot
                            d_logit *= prior[h]
                            for d in range(h * dim, h * dim + dim):
                                d_source[v + d] += a * d_h[d]
                                d_source[k + d] += d_logit * q[d]
                            for d in range(h * dim, h * dim + dim):
                                d_q[d] += d_logit * source[k + d]
                        edges += 1

    return forward, backward


class _CompiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, projection, mu, graphs):
        heads, width = mu.shape[-1], projection.shape[1] // 5
        ctx.kernels = attention_kernels(heads, width // heads)
        ctx.graphs = graphs.row.numpy(), tuple(edges.numpy() for edges in graphs.edges), graphs.kinds.numpy()
        out = projection.new_empty(len(projection), width)
        attn = projection.new_empty(len(projection), sum(edges.shape[2] for edges in graphs.edges), heads)
        ctx.save_for_backward(projection, mu, out, attn)
        ctx.kernels[0](projection.detach().numpy(), *ctx.graphs, mu.detach().numpy(), out.numpy(), attn.numpy())
        return out

    @staticmethod
    def backward(ctx, d_out):
        projection, mu, out, attn = (tensor.detach() for tensor in ctx.saved_tensors)
        d_projection, d_mu = torch.empty_like(projection), mu.new_empty(ctx.graphs[0].shape[1], *mu.shape)
        tensors = (mu, out, attn, d_out.contiguous(), d_projection, d_mu)
        ctx.kernels[1](projection.numpy(), *ctx.graphs, *(tensor.numpy() for tensor in tensors))
        return d_projection, d_mu.sum(0), None


def _gathered_attention(projection, mu, graphs):
    heads, batch = mu.shape[-1], graphs.row.shape[1]
    node, graph = graphs.slots // batch, graphs.slots % batch
    source = torch.cat(graphs.edges, 2)[graph, node].long()  # [M, all slots]
    slots = torch.tensor([edges.shape[2] for edges in graphs.edges])
    relation = torch.repeat_interleave(torch.arange(2), slots).to(source.device)
    row = graphs.row[source.clamp(min=0), graph[:, None]]
    absent = ((source < 0) | (row < 0)).unsqueeze(-1)
    q, k_and_v = projection.split([projection.shape[1] // 5, 4 * projection.shape[1] // 5], 1)
    k, v = k_and_v.reshape(len(q), 2, 2, heads, -1)[row.clamp(min=0), relation].unbind(2)  # [M, all slots, heads, dim]
    prior = mu[graphs.kinds[source.clamp(min=0)], relation, graphs.kinds[node, None]]
    logits = torch.einsum("mhd,mshd->msh", q.reshape(len(q), heads, -1), k).float() * prior / math.sqrt(k.shape[-1])
    attn = logits.masked_fill(absent, torch.finfo(torch.float32).min).softmax(1).masked_fill(absent, 0)
    return torch.einsum("msh,mshd->mhd", attn.to(v.dtype), v).flatten(1)


def attention(projection, mu, graphs: PackedGraphs):
    """Messages of each node's incoming edges, weighted by the softmax of q k mu / sqrt(dim) over all of its edges.

    projection [M, 5 C]: of each row q, then k and v for edges of the first type, then k and v for those of the second;
    mu float32 [types, 2, types, heads]: prior of source type, edge type and target type. Returns [M, C], 0 for a node
    without edges. The softmax goes over edges of both types together.
    """
    if projection.device.type == "cpu":
        return _CompiledAttention.apply(projection.float().contiguous(), mu, graphs)
    return _gathered_attention(projection, mu, graphs)
