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
    """A batch of B graphs whose nodes stand in one table of M rows: by type, then by graph, then by slot."""

    slots: torch.Tensor  # int64 [M]: what stands in each row, as graph * N + node
    row: torch.Tensor  # int64 [B, N]: the row of each node, -1 for no node
    kinds: torch.Tensor  # int64 [M]: type of each row
    counts: list[int]  # rows of each type
    lists: tuple[torch.Tensor, torch.Tensor]  # int16 [B, N, k] by edge type: sources of edges, -1 after the last
    # Without padding, int32: the rows of type i and graph b are span[i, b] to span[i, b + 1], the edges of row t are
    # first[t] to first[t + 1], and edge e comes from row source[e] and is of type relation[e].
    span: torch.Tensor | None = None
    first: torch.Tensor | None = None
    source: torch.Tensor | None = None
    relation: torch.Tensor | None = None


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
        for r in range(2 if row[b, n] >= 0 else 0):
            for m in lists[r][b, n]:
                if m < 0:
                    break
                if row[b, m] >= 0:
                    source[e] = row[b, m]
                    relation[e] = r
                    e += 1
    first[len(slots)] = e
    return e


def pack_graphs(
    mask, adjacent, reachable, type_slots: list[int], every: bool = False, padded: bool | None = None
) -> PackedGraphs:
    """The graphs of `graph_node_mask` uint8 [B, N], `graph_adjacent`, `graph_reachable`; type_slots: nodes per type.

    every: rows for all slots, also those without a node, which makes M and with it the rounding of matrix products
    independent of what the graphs hold. padded: so too, with edges gathered at a fixed size, which GPUs like better;
    default: padded unless on a CPU.
    """
    batch, nodes = mask.shape
    lists = adjacent.contiguous(), reachable.contiguous()
    if padded or (padded is None and mask.device.type != "cpu"):
        table = torch.arange(batch * nodes, device=mask.device).view(batch, nodes)
        slots = torch.cat([part.flatten() for part in table.split(type_slots, 1)])
        row = torch.empty_like(slots).index_copy_(0, slots, table.flatten())
        row = row.view(batch, nodes).masked_fill(mask == 0, -1)
        counts = [batch * count for count in type_slots]
        kinds = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts)).to(mask.device)
        return PackedGraphs(slots, row, kinds, counts, lists)
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


@functools.cache
def attention_kernels(heads: int, dim: int):
    """Compiled (forward, backward) for this many heads of this size; loops of known length become vector instructions.

    forward(projection, kinds, first, source, relation, mu, out, attn) writes its last two arguments, backward(those,
    d_out, span, d_projection, d_mu) its last two. Beside what `attention` and PackedGraphs tell:

    - attn f4 [edges, heads]: the softmax;
    - d_mu f4 [B, types, 2, types, heads]: by graph.
    """
    width = heads * dim
    scale = np.float32(1 / math.sqrt(dim))

    # Sums may be reordered; infinities and NaN stay what they are.
    fast = {"reassoc", "contract", "arcp", "nsz"}

    @njit(parallel=True, fastmath=fast, _nrt=False)
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
            for h in range(heads):
                top, total = np.float32(-np.inf), np.float32(0)
                for e in range(first[t], first[t + 1]):
                    top = max(top, attn[e, h])
                for e in range(first[t], first[t + 1]):
                    a = np.exp(attn[e, h] - top)
                    attn[e, h] = a
                    total += a
                share = np.float32(1) / total
                for e in range(first[t], first[t + 1]):
                    attn[e, h] *= share
            for e in range(first[t], first[t + 1]):
                v = projection[source[e], (2 + 2 * relation[e]) * width :]
                for h in range(heads):
                    a = attn[e, h]
                    for d in range(h * dim, h * dim + dim):
                        h_t[d] += a * v[d]

    @njit(parallel=True, fastmath=fast, _nrt=False)
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

    return forward, backward


class _CompiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, projection, mu, graphs):
        heads, width = mu.shape[-1], projection.shape[1] // 5
        out = projection.new_empty(len(projection), width)
        attn = projection.new_empty(len(graphs.source), heads)
        ctx.save_for_backward(projection, graphs.kinds, graphs.first, graphs.source, graphs.relation, mu, out, attn)
        ctx.span = graphs.span
        arrays = (tensor.detach().numpy() for tensor in ctx.to_save)
        attention_kernels(heads, width // heads)[0](*arrays)
        return out

    @staticmethod
    def backward(ctx, d_out):
        *_, mu, out, attn = ctx.saved_tensors
        d_projection = torch.empty_like(ctx.saved_tensors[0])
        d_mu = mu.new_empty(ctx.span.shape[1] - 1, *mu.shape)
        tensors = (*ctx.saved_tensors, d_out.contiguous(), ctx.span, d_projection, d_mu)
        attention_kernels(attn.shape[1], out.shape[1] // attn.shape[1])[1](*(t.detach().numpy() for t in tensors))
        return d_projection, d_mu.sum(0), None


def _gathered_attention(projection, mu, graphs):
    heads, nodes = mu.shape[-1], graphs.row.shape[1]
    graph, node = graphs.slots // nodes, graphs.slots % nodes
    source = torch.cat(graphs.lists, 2)[graph, node].long()  # [M, all slots]
    slots = torch.tensor([edges.shape[2] for edges in graphs.lists])
    relation = torch.repeat_interleave(torch.arange(2), slots).to(source.device)
    row = graphs.row[graph[:, None], source.clamp(min=0)]
    absent = ((source < 0) | (row < 0)).unsqueeze(-1)
    row = row.clamp(min=0)
    q, k_and_v = projection.split([projection.shape[1] // 5, 4 * projection.shape[1] // 5], 1)
    k, v = k_and_v.reshape(len(q), 2, 2, heads, -1)[row, relation].unbind(2)  # [M, all slots, heads, dim]
    prior = mu[graphs.kinds[row], relation, graphs.kinds[:, None]]
    logits = torch.einsum("mhd,mshd->msh", q.reshape(len(q), heads, -1), k).float() * prior / math.sqrt(k.shape[3])
    attn = logits.masked_fill(absent, torch.finfo(torch.float32).min).softmax(1).masked_fill(absent, 0)
    return torch.einsum("msh,mshd->mhd", attn.to(v.dtype), v).flatten(1)


def attention(projection, mu, graphs: PackedGraphs):
    """Messages of each node's incoming edges, weighted by the softmax of q k mu / sqrt(dim) over all of its edges.

    projection [M, 5 C]: of each row q, then k and v for edges of the first type, then k and v for those of the second;
    mu float32 [types, 2, types, heads]: prior of source type, edge type and target type. Returns [M, C], 0 for a node
    without edges. The softmax goes over edges of both types together.
    """
    if graphs.span is not None:
        return _CompiledAttention.apply(projection.float().contiguous(), mu, graphs)
    return _gathered_attention(projection, mu, graphs)
