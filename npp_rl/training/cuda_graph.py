"""Record what a function does on a GPU as one CUDA graph, and replay it: Python then starts one graph, not each kernel.

The idea and its use for whole updates are LeanRL's (https://github.com/meta-pytorch/LeanRL).
"""

from collections.abc import Callable

import torch

WARM_UP = 3  # calls before the recording, in which libraries choose kernels and the optimizer makes its state


class Graphed:
    """A function of tensors on a GPU that reads and writes other tensors only in place.

    The first calls run as they are, on a stream of their own. The next one is recorded. From then on a call copies its
    arguments to where the recorded ones are, and replays the graph: its results are in the same tensors every time.

    Arguments are tensors, or dicts of tensors, of the same shapes in all calls. The function must not look at values on
    the CPU. Calls may differ only in the values of tensors, not in which operations run.
    """

    def __init__(self, function: Callable):
        self.function, self.calls = function, 0
        self.stream = torch.cuda.Stream()
        self.graph = self.arguments = self.results = None

    def __call__(self, *arguments):
        self.calls += 1
        if self.calls <= WARM_UP:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                results = self.function(*arguments)
            torch.cuda.current_stream().wait_stream(self.stream)
            return results
        if self.graph is None:
            self.arguments = [_mapped(torch.clone, argument) for argument in arguments]
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self.stream):  # records, and does nothing yet
                self.results = self.function(*self.arguments)
            self.graph = graph
        for held, argument in zip(self.arguments, arguments, strict=True):
            _mapped(torch.Tensor.copy_, held, argument)
        self.graph.replay()
        return self.results


def _mapped(function, first, *others):
    """`function` of tensors, or of the tensors of dicts with the same keys."""
    if isinstance(first, dict):
        return {key: function(value, *(other[key] for other in others)) for key, value in first.items()}
    return function(first, *others)
