"""Load the agents of checkpoints. What is imported is an architecture's own script, or one that the user names."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import torch

from npp_rl import ARCHITECTURES, scripts
from npp_rl.commands import ArgumentError, CheckpointError
from npp_rl.environment.env import NppVectorEnv
from npp_rl.evaluation import analysis
from npp_rl.evaluation.players import agent_policy
from npp_rl.files import shown_name
from npp_rl.levels import generator
from npp_rl.training.arguments import args_from, check_args
from npp_rl.training.checkpoints import load, restoring, trained_on
from npp_rl.training.processes import fill_in_sizes

FLAG = "--script"


def load_agent(
    path: str | Path, device: str | torch.device = "cpu", named: Sequence[str] = ()
) -> tuple[torch.nn.Module, dict]:
    """The agent of a checkpoint, in evaluation mode on `device`, and the arguments of its run as a dict.

    named: paths of scripts that the user gave (--script). An architecture that is not one of ARCHITECTURES needs its
    own among them: a checkpoint names and carries the text of its script, but nothing of that is executed. A script
    that has changed since is said on stderr.

    The dict's `trained_on` has the keys of the levels that the agent was trained on (see `checkpoints.trained_on`).
    Raises CheckpointError if the file is unusable, or is of an unknown architecture or other observations, and
    ArgumentError for a bad script.
    """
    agent, run, note = _loaded(path, device, named)
    if note:
        print(note, file=sys.stderr)
    return agent, run


def _loaded(path, device, named) -> tuple[torch.nn.Module, dict, str]:
    """`load_agent`, and what is to be said of a script that has changed."""
    checkpoint = load(path, device)
    module, changed = _script_of(checkpoint, path, named)
    from npp_rl.environment.games import OBSERVATIONS  # imported here because it compiles

    with restoring(path, f"the architecture {module.ARCHITECTURE}" + (f" ({changed})" if changed else "")):
        args = args_from(module.Args, checkpoint["args"], str(path))
        for key, shape in checkpoint["observation_shapes"].items():
            expected = OBSERVATIONS[key][0]
            stacked = key == "player_frames" and list(shape[1:]) == list(expected[1:])
            if list(shape) != list(expected) and not stacked:
                raise CheckpointError(f"{path}: {key} had the shape {list(shape)}, in this version {list(expected)}")
        try:
            check_args(args, tuple(next(iter(module.SIZES.values()))))
        except ArgumentError as error:
            raise CheckpointError(f"{path}: {error}") from error
        shapes = {key: tuple(shape) for key, shape in checkpoint["observation_shapes"].items()}
        agent = module.Agent(shapes, args).to(device)
        agent.load_state_dict(checkpoint["agent"])
        known = trained_on(checkpoint)
    return agent.eval(), dataclasses.asdict(args) | {"trained_on": known}, f"{path}: {changed}" if changed else ""


def load_agents(
    paths: Sequence[str | Path], device: str | torch.device = "cpu", named: Sequence[str] = ()
) -> list[tuple[str, torch.nn.Module, dict]]:
    """`load_agent` for several checkpoints -> (path, agent, arguments of its run) of each.

    Raises ArgumentError for a script in `named` that belongs to none of them.
    """
    loaded = [(str(path), *_loaded(path, device, named)) for path in paths]
    used = {sys.modules[type(agent).__module__].ARCHITECTURE for _, agent, _, _ in loaded}
    for script in scripts.find_all(tuple(named), FLAG).values():
        if script.architecture not in used:
            raise ArgumentError(
                f"{FLAG} {shown_name(script.word)}: is of architecture {script.architecture}, {_listed(paths)} of "
                f"{', '.join(sorted(used))}"
            )
    for *_, note in loaded:  # now that nothing has failed
        if note:
            print(note, file=sys.stderr)
    return [(path, agent, run) for path, agent, run, _ in loaded]


def _listed(paths):
    return ", ".join(map(str, paths))


def _script_of(checkpoint: dict, path, named: Sequence[str]) -> tuple[ModuleType, str]:
    """The script of a checkpoint, imported, and how it differs from the text that the checkpoint carries, or ""."""
    found = scripts.find_all(tuple(named), FLAG)
    architecture, kept = checkpoint.get("architecture"), checkpoint.get("script")
    whole = isinstance(kept, dict) and all(isinstance(kept.get(key), str) for key in ("name", "sha256", "text"))
    kept = kept if whole else {}
    own = f"{shown_name(kept['name'])[:60]} (sha256 {shown_name(kept['sha256'])[:12]})" if kept else ""
    if isinstance(architecture, str) and architecture in found:
        script = found[architecture]
    elif architecture in ARCHITECTURES:
        script = scripts.find(architecture, FLAG)
    elif own:
        given = f"; {FLAG} {shown_name(str(named[0]))} is of {next(iter(found))}" if found else ""
        raise CheckpointError(
            f"{path}: this agent's script is {own}, architecture {architecture!r:.60}: name it by {FLAG}{given}"
        )
    else:
        known = ", ".join(ARCHITECTURES)
        raise CheckpointError(
            f"{path}: unknown architecture {architecture!r:.60} (expected one of {known}, or its script by {FLAG})"
        )
    changed = ""
    if kept and kept["sha256"] != script.sha256:
        text = script.path.read_bytes()
        changed = (
            f"{script.path.name} (sha256 {script.sha256[:12]}) is not the text that trained this agent, {own}; "
            f"{scripts.differences_of_fields(kept['text'], text)}"
        )
    return scripts.load(script, FLAG), changed


def compile_ahead(words: Sequence[str]) -> None:
    """Compile what runs of these architectures or scripts need, so that no run loses time to it."""
    modules = [scripts.load(script, FLAG) for script in scripts.find_all(tuple(words), FLAG).values()]
    # Numba compiles by type, so one environment with the observations of all architectures is enough.
    observations = tuple(dict.fromkeys(name for module in modules for name in module.Agent.observations))
    analysis.compile_ahead(observations)
    for module in () if torch.cuda.is_available() else modules:  # graph layers on CPUs have kernels by their width
        args = module.Args()
        fill_in_sizes(args, module.SIZES, on_gpu=False)
        rules = {"observations": module.Agent.observations, "frame_stack": getattr(args, "frame_stack", 1)}
        envs = NppVectorEnv(num_envs=2, levels=[generator.generate("simplest", 0)], **rules)
        rows, _ = envs.reset(seed=0)
        envs.close()
        agent = module.Agent({name: list(value.shape[1:]) for name, value in rows.items()}, args)
        agent_policy(agent, torch.device("cpu"), rows)
