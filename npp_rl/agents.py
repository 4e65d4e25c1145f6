"""Load the agents of checkpoints. It imports an architecture's script by its name from the list ARCHITECTURES."""

import dataclasses
import importlib
from collections.abc import Sequence
from pathlib import Path

import torch

from npp_rl import ARCHITECTURES
from npp_rl.commands import ArgumentError, CheckpointError
from npp_rl.environment.env import NppVectorEnv
from npp_rl.evaluation import analysis
from npp_rl.evaluation.players import agent_policy
from npp_rl.levels import generator
from npp_rl.training.arguments import args_from, check_args
from npp_rl.training.checkpoints import load, restoring, trained_on
from npp_rl.training.processes import fill_in_sizes


def load_agent(path: str | Path, device: str | torch.device = "cpu") -> tuple[torch.nn.Module, dict]:
    """The agent of a checkpoint, in evaluation mode on `device`, and the arguments of its run as a dict.

    The dict's `trained_on` has the keys of the levels that the agent was trained on (see `checkpoints.trained_on`).
    Raises CheckpointError if the file is unusable, or is of an unknown architecture or other observations.
    """
    checkpoint = load(path, device)
    architecture = checkpoint.get("architecture")
    if architecture not in ARCHITECTURES:
        raise CheckpointError(
            f"{path}: unknown architecture {architecture!r} (expected one of {', '.join(ARCHITECTURES)})"
        )
    try:
        script = importlib.import_module(f"npp_rl.ppo_{architecture}")
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{path}: architecture {architecture} is not in this version ({error})") from error
    from npp_rl.environment.games import OBSERVATIONS  # imported here because it compiles

    with restoring(path, f"the architecture {architecture}"):
        args = args_from(script.Args, checkpoint["args"], str(path))
        for key, shape in checkpoint["observation_shapes"].items():
            expected = OBSERVATIONS[key][0]
            stacked = key == "player_frames" and list(shape[1:]) == list(expected[1:])
            if list(shape) != list(expected) and not stacked:
                raise CheckpointError(f"{path}: {key} had the shape {list(shape)}, in this version {list(expected)}")
        try:
            check_args(args, tuple(next(iter(script.SIZES.values()))))
        except ArgumentError as error:
            raise CheckpointError(f"{path}: {error}") from error
        shapes = {key: tuple(shape) for key, shape in checkpoint["observation_shapes"].items()}
        agent = script.Agent(shapes, args).to(device)
        agent.load_state_dict(checkpoint["agent"])
        known = trained_on(checkpoint)
    return agent.eval(), dataclasses.asdict(args) | {"trained_on": known}


def compile_ahead(architectures: Sequence[str]) -> None:
    """Compile what runs of these architectures need, so that no run loses time to it."""
    scripts = [importlib.import_module(f"npp_rl.ppo_{name}") for name in architectures]
    # Numba compiles by type, so one environment with the observations of all architectures is enough.
    observations = tuple(dict.fromkeys(name for script in scripts for name in script.Agent.observations))
    analysis.compile_ahead(observations)
    for script in () if torch.cuda.is_available() else scripts:  # graph layers on CPUs have kernels by their width
        args = script.Args()
        fill_in_sizes(args, script.SIZES, on_gpu=False)
        rules = {"observations": script.Agent.observations, "frame_stack": getattr(args, "frame_stack", 1)}
        envs = NppVectorEnv(num_envs=2, levels=[generator.generate("simplest", 0)], **rules)
        rows, _ = envs.reset(seed=0)
        envs.close()
        agent = script.Agent({name: list(value.shape[1:]) for name, value in rows.items()}, args)
        agent_policy(agent, torch.device("cpu"), rows)
