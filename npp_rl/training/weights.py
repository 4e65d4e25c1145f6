"""An agent's weights as few long tensors, which one call updates, their gradients over processes, and optimizers."""

import inspect

import torch
import torch.distributed as dist
from torch import nn, optim

from npp_rl.training.ranks import Sum

ALIGNED = 16  # floats: each weight begins at a cache line, as if it were a tensor of its own


def _light(kind: type[optim.Optimizer]) -> type[optim.Optimizer]:
    """One of torch's optimizers that does not import torch's compiler, which takes more than a second.

    torch wraps these methods so that its compiler leaves them out. Here no optimizer is compiled.
    """
    names = ("add_param_group", "load_state_dict", "state_dict", "zero_grad")
    methods = {name: inspect.unwrap(getattr(kind, name)) for name in names}
    methods["step"] = torch.no_grad()(inspect.unwrap(kind.step))
    return type(kind.__name__, (kind,), methods)


Adam, AdamW = _light(optim.Adam), _light(optim.AdamW)


class Weights:
    """The weights that learn as long tensors in `flat`: one of the critic's head, one of all others.

    The parameters of the agent become views of them, so that the optimizer, the gradient's norm and the sum over
    processes are a few operations on long tensors and not some on each parameter. The critic's head is apart because it
    can learn alone (see Pretraining), or not at all. All processes begin with the weights of rank 0.
    """

    def __init__(self, agent: nn.Module, process):
        learning = [(name, parameter) for name, parameter in agent.named_parameters() if parameter.requires_grad]
        critic = [parameter for name, parameter in learning if name.startswith("critic.")]
        others = [parameter for name, parameter in learning if not name.startswith("critic.")]
        self.world_size = process.world_size
        self.flat, self.parts, lengths = [], [], []
        for parameters in filter(None, (others, critic)):
            device = parameters[0].device
            pieces, part = [], []
            for parameter in parameters:
                rest = torch.zeros(-parameter.numel() % ALIGNED, device=device)
                pieces += [parameter.detach().flatten(), rest]
                part.append((parameter, rest, torch.zeros_like(pieces[-2])))
            flat = torch.cat(pieces)
            for (parameter, _, _), piece in zip(part, flat.split([len(piece) for piece in pieces])[::2], strict=True):
                parameter.data = piece.view_as(parameter)
            self.flat.append(nn.Parameter(flat))
            self.parts.append(part)
            lengths.append(len(flat))
        if self.world_size > 1:
            for tensor in agent.state_dict().values():  # machines may round the first weights differently
                dist.broadcast(tensor, 0)
        self.sum = Sum(process.team, sum(lengths)) if process.team is not None else None
        self.gradient = self.sum.total if self.sum else torch.zeros(sum(lengths), device=self.flat[0].device)
        self.gradients = self.gradient.split(lengths)

    def gather_gradients(self) -> None:
        """Move the gradients of the agent's parameters into `flat`, as means over all processes.

        A part without any gradient gets none. All processes must call it alike.
        """
        pieces = []
        for flat, gradient, part in zip(self.flat, self.gradients, self.parts, strict=True):
            flat.grad = None
            for parameter, rest, zero in part:
                if parameter.grad is not None:
                    flat.grad = gradient
                pieces += [zero if parameter.grad is None else parameter.grad.flatten(), rest]
                parameter.grad = None
        torch.cat(pieces, out=self.sum.array if self.sum else self.gradient)
        if self.sum:
            self.sum.add()
        elif self.world_size > 1:
            dist.all_reduce(self.gradient)
        if self.world_size > 1:
            self.gradient.mul_(1 / self.world_size)
