"""Policies of agents and of ensembles, as `evaluate` takes them."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from npp_rl.commands import ArgumentError
from npp_rl.levels.sources import same_dataset


def agent_policy(
    agent: torch.nn.Module, device: torch.device, rows: dict[str, np.ndarray] | None = None
) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Policy of an agent with `get_logits`: dict of arrays [B, ...] -> logits float32 [B, 6].

    rows: observations of some games. With them graph layers compile their kernels now, and not at the first call.
    """
    if rows is not None and device.type == "cpu" and "graph_nodes" in rows:
        with torch.no_grad():  # by the class, because the agent's own `heads` may go through torch.compile
            type(agent).heads(agent, {key: torch.from_numpy(value[:1]) for key, value in rows.items()})

    def policy(observations):
        with torch.no_grad():
            x = {key: torch.from_numpy(value).to(device) for key, value in observations.items()}
            training = agent.training
            agent.eval()  # makes the tables of graph agents one size
            logits = agent.get_logits(x).float().cpu().numpy()
            agent.train(training)
            return logits

    return policy


class Ensemble(torch.nn.Module):
    """Several agents as one. Its logits float32 [B, 6] are the mean of their log-probabilities, or the agents vote.

    In a vote each agent has one vote, for its likeliest action. The softmax of that mean counts as half a vote, which
    decides ties and nothing else. The logits are the logarithms of the shares of the votes.

    It reads the observations of all its agents, with the longest stack of `player_frames`. An agent with a shorter
    stack sees the newest pictures of it, which equal its own stack because stacks begin with copies of the first one.
    """

    def __init__(self, agents: Sequence[torch.nn.Module], frame_stacks: Sequence[int], vote: bool = False):
        super().__init__()
        self.vote = vote
        self.agents = torch.nn.ModuleList(agents)
        self.frame_stacks = tuple(frame_stacks)
        self.observations = tuple(dict.fromkeys(name for agent in agents for name in agent.observations))

    def _seen(self, x):
        """Each agent with its own observations."""
        for agent, stack in zip(self.agents, self.frame_stacks, strict=True):
            own = {name: x[name] for name in agent.observations}
            if "player_frames" in own:
                own["player_frames"] = own["player_frames"][:, -stack:]
            yield agent, own

    def logprobs(self, x):
        """Log-probabilities of each agent, float64 [agents, B, 6]."""
        return torch.stack([torch.log_softmax(agent.get_logits(own).double(), 1) for agent, own in self._seen(x)])

    def combined(self, logprobs):
        """The ensemble's logits float32 [B, 6] of the agents' log-probabilities."""
        mean = logprobs.mean(0)
        if not self.vote:
            return mean.float()
        votes = torch.nn.functional.one_hot(logprobs.argmax(2), logprobs.shape[2]).sum(0) + 0.5 * torch.softmax(mean, 1)
        return (votes / votes.sum(1, keepdim=True)).clamp_min(1e-30).log().float()

    def get_logits(self, x):
        return self.combined(self.logprobs(x))

    def get_value(self, x):
        """Mean of the agents' values, float32 [B]."""
        return torch.stack([agent.get_value(own) for agent, own in self._seen(x)]).mean(0)


def together(loaded: Sequence[tuple[str, torch.nn.Module, dict]], vote: bool = False) -> tuple[Ensemble, dict]:
    """The ensemble of loaded checkpoints (file, agent, arguments of its run), and arguments that fit all of them.

    vote: see Ensemble.

    Raises ArgumentError if their frame skips or data sets differ: one may have trained on another's test levels.
    """
    (first, _, run), *others = loaded
    for file, _, other in others:
        for name in ("frame_skip", "train_dataset", "test_dataset", "holdout_fraction", "validation_fraction"):
            one, two = run[name], other[name]
            if not (same_dataset(one, two) if name.endswith("dataset") else one == two):
                raise ArgumentError(f"--checkpoint: {first} has {name} {one}, {file} has {two} (an ensemble has one)")
    stacks = [run.get("frame_stack", 1) for _, _, run in loaded]
    seen = [run.get("trained_on") for _, _, run in loaded]
    more = {"frame_stack": max(stacks), "trained_on": None if None in seen else frozenset().union(*seen)}
    return Ensemble([agent for _, agent, _ in loaded], stacks, vote), {**run, **more}


def device_of(name: str) -> torch.device:
    """The device of this name. Raises ArgumentError for `cuda` without a GPU."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ArgumentError("--device cuda: no CUDA device is available")
    return torch.device(name)
