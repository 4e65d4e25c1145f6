"""The graph layers against PyTorch Geometric's on the same weights, and what padding may not do."""

import itertools

import numpy as np
import pytest
import torch
from torch_geometric.nn import GATv2Conv, GCNConv, HGTConv

from npp_rl.ppo_gat import GATv2Layer
from npp_rl.ppo_gcn import GCNLayer
from npp_rl.ppo_vision_free import HGTLayer
from npp_rl.simulator.compiled import njit
from npp_rl.training import graph_tables, graph_vectors, picture_layers
from npp_rl.training.additive_attention import additive_attention, additive_attention_kernels
from npp_rl.training.graph_attention import attention, attention_kernels
from npp_rl.training.graph_tables import normalised_sum, pack_graphs, readout, typed_linear

SLOTS = [9, 1, 4, 2, 2, 3]  # a small graph with all six node types
NODES, BATCH, WIDTH, HEADS, WIDTHS = sum(SLOTS), 5, 24, 4, (4, 6)
TYPES, STARTS = len(SLOTS), np.concatenate([[0], np.cumsum(SLOTS)])
KIND = np.repeat(np.arange(TYPES), SLOTS)


def random_graphs(seed):
    """Mask uint8 [BATCH, NODES] and padded lists of random graphs; some nodes are missing, some have no edges."""
    rng = np.random.default_rng(seed)
    mask = rng.random((BATCH, NODES)) < 0.7
    mask[:, STARTS[1]] = True
    lists = []
    for slots in WIDTHS:
        lists.append(np.full((BATCH, NODES, slots), -1, np.int16))
        for b, t in zip(*mask.nonzero(), strict=True):
            degree = rng.integers(slots + 1) if rng.random() < 0.8 else 0
            sources = rng.permutation(mask[b].nonzero()[0])[:degree]
            lists[-1][b, t, : len(sources)] = sources
    return mask.astype(np.uint8), *lists


def packed(mask, adjacent, reachable, **options):
    arrays = (torch.from_numpy(array) for array in (mask, adjacent, reachable))
    return pack_graphs(*arrays, SLOTS, **options)


def random_layer(seed=0, kind="hgt"):
    torch.manual_seed(seed)
    layer = {"hgt": (HGTLayer, TYPES, WIDTH, HEADS), "gat": (GATv2Layer, WIDTH, HEADS), "gcn": (GCNLayer, WIDTH)}[kind]
    layer = layer[0](*layer[1:])
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return layer


def pyg_layer(layer, x, graphs):
    """HGTConv with the layer's weights on the same graphs: its output [M, WIDTH], and its gradients when called."""
    names = [f"t{i}" for i in range(TYPES)]
    numbers = list(itertools.product(range(TYPES), range(2), range(TYPES)))
    triples = [(names[s], f"r{r}", names[t]) for s, r, t in numbers]
    conv = HGTConv(WIDTH, WIDTH, (names, triples), HEADS)
    lins, outs = [conv.kqv_lin.lins[n] for n in names], [conv.out_lin.lins[n] for n in names]
    priors = [conv.p_rel["__".join(triple)] for triple in triples]
    with torch.no_grad():
        for i, name in enumerate(names):
            kqv = layer.qkv[[1, 0, 2], i].flatten(2)  # [3, WIDTH + 1, WIDTH]
            lins[i].weight.copy_(torch.cat([m[:-1].T for m in kqv]))
            lins[i].bias.copy_(kqv[:, -1].flatten())
            outs[i].weight.copy_(layer.w_out[i, :-1].T)
            outs[i].bias.copy_(layer.w_out[i, -1])
            conv.skip[name].copy_(layer.skip[i])
        for e, (s, r, t) in enumerate(numbers):
            priors[e].copy_(layer.mu[s, r, t])
            for h in range(HEADS):  # one matrix per triple: those of one edge type are copies
                conv.k_rel.weight[h * len(triples) + e] = layer.w_edge[r, 0, h]
                conv.v_rel.weight[h * len(triples) + e] = layer.w_edge[r, 1, h]
    first_row = np.concatenate([[0], np.cumsum(graphs.counts)])
    edges = {triple: [] for triple in triples}
    for r, lists in enumerate(graphs.lists):
        for b, t, slot in lists.ge(0).nonzero().tolist():
            s = int(lists[b, t, slot])
            pair = (int(graphs.row[b, s]) - first_row[KIND[s]], int(graphs.row[b, t]) - first_row[KIND[t]])
            edges[names[KIND[s]], f"r{r}", names[KIND[t]]].append(pair)
    edges = {triple: torch.tensor(pairs, dtype=torch.int64).view(-1, 2).T for triple, pairs in edges.items()}
    out = conv(dict(zip(names, x.split(graphs.counts), strict=True)), edges)

    def gradients():
        def shared(module):
            weight = module.weight.grad.view(HEADS, TYPES, 2, TYPES, *module.weight.shape[1:])
            return weight.sum((1, 3)).transpose(0, 1)

        weight = torch.stack([m.weight.grad.view(3, WIDTH, WIDTH).transpose(1, 2) for m in lins], 1)
        bias = torch.stack([m.bias.grad.view(3, 1, WIDTH) for m in lins], 1)
        return {
            "qkv": torch.cat([weight, bias], 2)[[1, 0, 2]].view_as(layer.qkv),
            "w_edge": torch.stack([shared(conv.k_rel), shared(conv.v_rel)], 1),
            "mu": torch.stack([prior.grad[0] for prior in priors]).view_as(layer.mu),
            "w_out": torch.stack([torch.cat([m.weight.grad.T, m.bias.grad[None]]) for m in outs]),
            "skip": torch.cat([conv.skip[n].grad for n in names]),
        }

    return torch.cat([out[name] for name in names]), gradients


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_hgt_equals_pytorch_geometric(padded, seed):
    layer, graphs = random_layer(seed), packed(*random_graphs(seed), padded=padded)
    x = torch.randn(len(graphs.slots), WIDTH, requires_grad=True)
    direction = torch.randn_like(x)
    out = layer(x, graphs)
    (x_grad,) = torch.autograd.grad(out, x, direction, retain_graph=True)
    out.backward(direction)
    expected, gradients = pyg_layer(layer, x, graphs)
    (expected_grad,) = torch.autograd.grad(expected, x, direction, retain_graph=True)
    expected.backward(direction)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x_grad, expected_grad, rtol=1e-5, atol=1e-5)
    parameters = dict(layer.named_parameters())
    assert gradients().keys() == parameters.keys()
    for name, gradient in gradients().items():
        assert gradient.abs().max() > 0.1
        torch.testing.assert_close(
            parameters[name].grad, gradient, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def pyg_untyped(layer, graphs, lists):
    """GATv2Conv or GCNConv with the layer's weights, and the same edges: pairs [2, edges] of rows, types together."""
    edges = [
        (int(graphs.row[b, sources[b, t, slot]]), int(graphs.row[b, t]))
        for sources in lists
        for b, t, slot in zip(*(sources >= 0).nonzero(), strict=True)
    ]
    if isinstance(layer, GCNLayer):
        conv = GCNConv(WIDTH, WIDTH)
        weights = {conv.lin.weight: layer.linear.weight, conv.bias: layer.linear.bias}
    else:
        conv = GATv2Conv(WIDTH, WIDTH // HEADS, HEADS)
        weights = {conv.att: layer.a[None], conv.bias: torch.zeros(WIDTH)}
        for i, lin in enumerate((conv.lin_l, conv.lin_r)):  # sender, receiver
            part = slice(i * WIDTH, (i + 1) * WIDTH)
            weights |= {lin.weight: layer.project.weight[part], lin.bias: layer.project.bias[part]}
    with torch.no_grad():
        for theirs, ours in weights.items():
            theirs.copy_(ours)

    def gradients():
        if isinstance(layer, GCNLayer):
            return {"linear.weight": conv.lin.weight.grad, "linear.bias": conv.bias.grad}
        lins = conv.lin_l, conv.lin_r
        return {
            "project.weight": torch.cat([lin.weight.grad for lin in lins]),
            "project.bias": torch.cat([lin.bias.grad for lin in lins]),
            "a": conv.att.grad[0],
        }

    return conv, torch.tensor(edges).T, gradients


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", ["gat", "gcn"])
@pytest.mark.parametrize("seed", range(3))
def test_untyped_layers_equal_pytorch_geometric(kind, padded, seed):
    """Edges of both types together: one in both lists counts twice, and a node has one self-loop whatever they say."""
    mask, *lists = random_graphs(seed)
    layer, graphs = random_layer(seed, kind), packed(mask, *lists, self_loops=True, padded=padded)
    conv, edges, gradients = pyg_untyped(layer, graphs, lists)
    others = edges[:, edges[0] != edges[1]]
    assert others.shape[1] < edges.shape[1] and len(others.T.unique(dim=0)) < others.shape[1]
    x = torch.randn(len(graphs.slots), WIDTH, requires_grad=True)
    present = torch.zeros(len(x), 1)  # theirs has self-loops in rows without a node too
    present[graphs.row[graphs.row >= 0]] = 1
    direction = torch.randn_like(x) * present
    out, expected = layer(x, graphs), conv(x, edges)
    (x_grad,) = torch.autograd.grad(out, x, direction, retain_graph=True)
    (expected_grad,) = torch.autograd.grad(expected, x, direction, retain_graph=True)
    out.backward(direction)
    expected.backward(direction)
    torch.testing.assert_close(out * present, expected * present, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x_grad, expected_grad, rtol=1e-5, atol=1e-5)
    parameters = dict(layer.named_parameters())
    assert gradients().keys() == parameters.keys()
    for name, gradient in gradients().items():
        assert gradient.abs().max() > 0.1
        torch.testing.assert_close(
            parameters[name].grad, gradient, rtol=1e-4, atol=1e-4, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_normalised_sum_by_hand():
    """Node 0 hears from 1 and 2, node 1 from 2, each from itself: degrees 3, 2, 1, counted over incoming edges."""
    lists = np.full((1, NODES, 2), -1, np.int16), np.full((1, NODES, 2), -1, np.int16)
    lists[0][0, 0] = [1, 2]
    lists[1][0, 1] = [2, 1]  # the second is a self-loop, of which there is one anyway
    mask = np.zeros((1, NODES), np.uint8)
    mask[0, :3] = 1
    x = torch.tensor([[1.0], [10.0], [100.0]])
    expected = [1 / 3 + 10 / 6**0.5 + 100 / 3**0.5, 10 / 2 + 100 / 2**0.5, 100.0]
    for padded in (False, True):
        graphs = packed(mask, *lists, self_loops=True, padded=padded)
        out = normalised_sum(torch.cat([x, torch.full((len(graphs.slots) - 3, 1), 1e3)]), graphs)
        torch.testing.assert_close(out[:3, 0], torch.tensor(expected))


def test_attention_without_edges_is_zero():
    mask, adjacent, reachable = random_graphs(2)
    for padded in (False, True):
        graphs = packed(mask, np.full_like(adjacent, -1), np.full_like(reachable, -1), padded=padded)
        x, (a, weight, bias) = torch.randn(len(graphs.slots), WIDTH), random_layer(kind="gat").parameters()
        assert not additive_attention(x, weight, bias, a, graphs).any()
        layer = random_layer()
        assert not attention(x, layer.qkv, layer.w_edge, layer.mu, graphs).any()


def test_attention_sums_to_one_over_both_edge_types():
    """With v = 1 everywhere the weighted sum of v is 1 for nodes with edges and 0 for nodes without."""
    graphs = packed(*random_graphs(1))
    layer = random_layer()
    with torch.no_grad():
        layer.qkv[2, :, :-1], layer.qkv[2, :, -1] = 0, 1
        layer.w_edge[:, 1] = torch.eye(WIDTH // HEADS)
    out = attention(torch.randn(len(graphs.slots), WIDTH), layer.qkv, layer.w_edge, layer.mu, graphs)
    degrees = sum(lists.ge(0).sum(2).flatten()[graphs.slots] for lists in graphs.lists)
    assert 0 < (degrees > 0).sum() < len(degrees)
    torch.testing.assert_close(out, (degrees > 0)[:, None].expand(-1, WIDTH).float())


def test_node_without_edges_gets_the_bias_through_its_skip():
    mask, adjacent, reachable = random_graphs(0)
    layer, graphs = random_layer(), packed(mask, np.full_like(adjacent, -1), np.full_like(reachable, -1))
    x, kinds = torch.randn(len(graphs.slots), WIDTH), graphs.kinds
    share = torch.sigmoid(layer.skip)[kinds, None]
    torch.testing.assert_close(layer(x, graphs), share * layer.w_out[kinds, -1] + (1 - share) * x)


def test_nodes_stand_in_rows_by_type():
    mask, adjacent, reachable = random_graphs(4)
    graphs = packed(mask, adjacent, reachable)
    assert graphs.counts == [int(mask[:, a:b].sum()) for a, b in itertools.pairwise(STARTS)]
    assert len(graphs.slots) == mask.sum()
    assert torch.equal(graphs.row >= 0, torch.from_numpy(mask > 0))
    assert torch.equal(graphs.row.flatten()[graphs.slots], torch.arange(len(graphs.slots)))
    assert torch.equal(graphs.kinds, torch.from_numpy(KIND)[graphs.slots % NODES])
    assert (graphs.kinds.diff() >= 0).all()


def test_an_edge_of_a_missing_node_does_not_count():
    """A list that still names a node that the mask has taken out gives what a list without it gives."""
    mask, adjacent, reachable = random_graphs(5)
    b, t, slot = next(e for e in zip(*(adjacent >= 0).nonzero(), strict=True) if adjacent[e] != e[1])
    gone = adjacent[b, t, slot]
    mask[b, gone] = 0
    without = [lists.copy() for lists in (adjacent, reachable)]
    for lists in without:
        for n in range(NODES):
            kept = lists[b, n][(lists[b, n] != gone) & (lists[b, n] >= 0)]
            lists[b, n] = -1
            lists[b, n, : len(kept)] = kept
        lists[b, gone] = -1
    for padded in (False, True):
        layer, graphs = random_layer(), packed(mask, adjacent, reachable, padded=padded)
        x = torch.randn(len(graphs.slots), WIDTH)
        expected = layer(x, packed(mask, *without, padded=padded))
        torch.testing.assert_close(layer(x, graphs), expected, rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["hgt", "gat"])
def test_only_sources_matter_to_a_node(kind):
    graphs = packed(*random_graphs(3), self_loops=kind != "hgt")
    layer, x = random_layer(kind=kind), torch.randn(len(graphs.slots), WIDTH)
    b, t = next((b, t) for b, t, _ in graphs.lists[0].ge(0).nonzero().tolist())
    used = {t} | {s for edges in graphs.lists for s in edges[b, t].tolist() if s >= 0}
    row = int(graphs.row[b, t])
    other = torch.full_like(x, 1e3)
    for n in used:
        other[graphs.row[b, n]] = x[graphs.row[b, n]]
    torch.testing.assert_close(layer(x, graphs)[row], layer(other, graphs)[row])
    for n in used:
        changed = x.clone()
        changed[graphs.row[b, n]] += 1
        assert not torch.allclose(layer(x, graphs)[row], layer(changed, graphs)[row])


@pytest.mark.parametrize("kind", ["hgt", "gat", "gcn"])
def test_padded_rows_give_the_same(kind):
    """What runs on GPUs, rows for empty slots too: the same for the nodes, whatever the padding holds."""
    arrays = random_graphs(6)
    graphs, padded = (packed(*arrays, self_loops=kind != "hgt", padded=padded) for padded in (False, True))
    assert padded.counts == [BATCH * count for count in SLOTS]
    layer, x = random_layer(kind=kind), torch.randn(len(graphs.slots), WIDTH)
    table = torch.full((BATCH * NODES, WIDTH), 1e3)
    table[graphs.slots] = x
    out = torch.empty_like(table)
    out[padded.slots] = layer(table[padded.slots], padded)
    torch.testing.assert_close(out[graphs.slots], layer(x, graphs), rtol=1e-5, atol=1e-5)


def gradients(out, direction, *tensors):
    return torch.autograd.grad(out, tensors, direction, retain_graph=True)


@pytest.mark.parametrize("joined", [False, True])
def test_maps_by_type_equal_one_linear_layer_for_each_type(joined):
    """Also where a type has no node: its weights have a gradient of 0."""
    mask, *lists = random_graphs(7)
    mask[:, STARTS[3] : STARTS[4]] = 0
    graphs = packed(mask, *lists)
    layers = [torch.nn.Linear(WIDTH, 10) for _ in SLOTS]
    x = torch.randn(len(graphs.slots), WIDTH, requires_grad=True)
    pairs = [parameter for layer in layers for parameter in (layer.weight, layer.bias)]
    one = torch.stack([torch.cat((layer.weight.t(), layer.bias[None])) for layer in layers])
    out = typed_linear(x, graphs, *([one] if joined else pairs))
    expected = torch.cat([layer(part) for layer, part in zip(layers, x.split(graphs.counts), strict=True)])
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    direction = torch.randn_like(out)
    for ours, plain in zip(
        gradients(out, direction, x, *pairs), gradients(expected, direction, x, *pairs), strict=True
    ):
        torch.testing.assert_close(ours, plain, rtol=1e-5, atol=1e-5)
    assert not gradients(out, direction, layers[3].weight)[0].any()


@pytest.mark.parametrize("every", [False, True])
def test_readout_equals_means_and_maxima_by_hand(every):
    """Of relu(h), by graph and type, with 0 for types without a node; nodes that share a maximum share its gradient."""
    mask, *lists = random_graphs(8)
    mask[1, : STARTS[1]] = 0
    graphs = packed(mask, *lists, every=every)
    h = torch.randn(len(graphs.slots), WIDTH)
    pair = graphs.row[0, : STARTS[1]][mask[0, : STARTS[1]] > 0][:2]
    h[pair, 0] = 5.0
    mines = graphs.row[2, STARTS[2] : STARTS[3]]
    h[mines[mines >= 0]] = -1.0
    h.requires_grad_()
    parts = []
    for b in range(BATCH):
        rows = [graphs.row[b, a:z] for a, z in itertools.pairwise(STARTS)]
        rows = [torch.relu(h[part[part >= 0]]) for part in rows]
        mean = rows[0].mean(0) if len(rows[0]) else torch.zeros(WIDTH)
        parts.append(torch.cat([mean, *(r.amax(0) if len(r) else torch.zeros(WIDTH) for r in rows)]))
    out, expected = readout(h, graphs), torch.stack(parts)
    torch.testing.assert_close(out, expected, rtol=1e-6, atol=1e-6)
    direction = torch.randn_like(out)
    (ours,), (plain,) = gradients(out, direction, h), gradients(expected, direction, h)
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-6)
    assert ours[pair[0], 0] == ours[pair[1], 0] != 0
    padded = packed(mask, *lists, padded=True)
    table = torch.full((BATCH * NODES, WIDTH), 1e3)
    table[graphs.slots] = h.detach()
    torch.testing.assert_close(readout(table[padded.slots], padded), out.detach(), rtol=1e-6, atol=1e-6)


def test_readout_keeps_nan():
    """At whichever node of a type, as torch does: a training that diverges is to be seen."""
    mask, *lists = random_graphs(8)
    padded = packed(mask, *lists, padded=True)
    for node in range(NODES):
        table = torch.randn(BATCH, NODES, WIDTH)
        table[1, node] = torch.nan
        outs = []
        for graphs in (packed(mask, *lists), padded):
            outs.append(readout(table.flatten(0, 1)[graphs.slots], graphs))
        torch.testing.assert_close(*outs, rtol=1e-6, atol=1e-6, equal_nan=True)
        assert outs[0][1].isnan().any() == bool(mask[1, node])


def test_compiled_kernels_are_found_again_by_another_process():
    """Numba's cache knows them by what they take from enclosing functions, and functions differ between processes."""
    kernels = [*attention_kernels(4, 6), *additive_attention_kernels(4, 6), *picture_layers._kernels(4, 8)]
    kernels += [*graph_tables._sum_kernels(24), *graph_tables._readout_kernels(24)]
    for kernel in kernels:
        values = [cell.cell_contents for cell in kernel.py_func.__closure__]
        assert all(isinstance(value, int | np.float32) for value in values), kernel.py_func.__qualname__


@njit(_nrt=False)
def exp_in_vectors(x, out):
    for i in range(0, len(x), 6):
        graph_vectors.store(out, i, graph_vectors.exp(graph_vectors.load(x, i, 6), 6))


def test_exp_in_vectors_is_exact_to_the_last_bits():
    x = np.concatenate([-np.geomspace(1e-6, 86.9, 5994), [0, -1, -1000, -np.inf, np.nan, -0.0]]).astype(np.float32)
    out = np.empty_like(x)
    exp_in_vectors(x, out)
    expected = np.exp(np.maximum(x, -87).astype(np.float64))
    np.testing.assert_allclose(out, expected, rtol=2e-7)
