"""How a recorded function gets its arguments and gives its results, with a stand-in for the graph itself."""

import contextlib

import torch

from npp_rl.training.cuda_graph import WARM_UP, Graphed


class Stream:
    def wait_stream(self, other):
        pass


def test_calls_are_recorded_once_and_replayed(monkeypatch):
    """The stand-in does on a CPU what a graph does: the recorded calls again, on the recorded tensors."""
    graphs, calls = [], []

    class Graph:
        def replay(self):
            results = graphed.function(*graphed.arguments)
            for held, result in zip(graphed.results, results, strict=True):
                held.copy_(result)

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "graph", lambda graph, stream: contextlib.nullcontext(graphs.append(graph)))

    def function(x, rows):
        calls.append(x)
        return x["a"] + 2 * x["b"], rows.sum()[None]

    graphed, held = Graphed(function), []
    for k in range(WARM_UP + 3):
        x, rows = {"a": torch.full((2,), float(k)), "b": torch.arange(2.0)}, torch.full((3,), k)
        one, two = graphed(x, rows)
        assert one.tolist() == [k, k + 2] and two.item() == 3 * k
        assert (calls[-1] is x) == (k < WARM_UP)
        if k >= WARM_UP:
            held.append((one, two))
    assert len(graphs) == 1
    assert len(calls) == WARM_UP + 1 + 3  # the recording, and each replay of the stand-in
    assert all(one is held[0][0] and two is held[0][1] for one, two in held)
