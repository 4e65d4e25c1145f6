"""Measure what an agent costs: parameters, operations, latency, memory (see evaluation/cost.py).

    python -m npp_rl.cost --checkpoint RUN_DIR/checkpoints/best.pt

Several checkpoints are measured as one ensemble, as in `python -m npp_rl.evaluation --ensemble`.
"""

import json
from dataclasses import dataclass
from typing import Literal

import torch

from npp_rl.agents import load_agents
from npp_rl.commands import ArgumentError, command
from npp_rl.evaluation import players
from npp_rl.evaluation.cost import cost, observation_shapes


@dataclass
class Args:
    checkpoint: tuple[str, ...]
    """checkpoint file or exported agent (a folder, zoo:NAME), or several of an ensemble"""
    script: tuple[str, ...] = ()
    """scripts of checkpoints whose architecture is none of the eight, each a path that ends in .py"""
    device: Literal["cpu", "cuda"] = "cpu"
    """where the policy runs"""


def main(args: Args) -> None:
    """Print the cost of a checkpoint's agent as JSON. Raises ArgumentError, CheckpointError."""
    if not args.checkpoint:
        raise ArgumentError("--checkpoint: expected at least one file")
    device = players.device_of(args.device)
    loaded = load_agents(args.checkpoint, device, args.script)
    agent, run = players.together(loaded) if len(loaded) > 1 else loaded[0][1:]
    torch.set_num_threads(1)  # as in evaluations
    shapes = observation_shapes(agent.observations, run.get("frame_stack", 1))
    print(json.dumps(cost(agent, shapes, device)))


if __name__ == "__main__":
    command(main, Args)
