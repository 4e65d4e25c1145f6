"""Makes run directories of agents that were not trained, of any architecture, in a moment."""

import dataclasses
import importlib
import json
from pathlib import Path

import torch

from npp_rl.environment.games import OBSERVATIONS
from npp_rl.evaluation.summary import summarise
from npp_rl.levels.generator import generate
from npp_rl.training import checkpoints
from npp_rl.training.arguments import plain_args

KNOWN = [generate("simplest", 3), generate("simplest", 4)]  # levels that the agents were trained on
HEAT = 50  # factor on the actor's weights, so that the policy has opinions, as a trained one


def made_run(folder: Path, name: str = "mlp_baseline", results: bool = True, seed: int = 0, **changes) -> Path:
    """A finished run's folder with checkpoints/best.pt, config.json and eval_results.json -> best.pt.

    changes: arguments of the script; sizes that are not among them are those of `--size small`.
    """
    script = importlib.import_module(f"npp_rl.ppo_{name}")
    args = script.Args(size="small", train_dataset="builtin", test_dataset="builtin", **changes)
    args = dataclasses.replace(args, **{k: v for k, v in script.SIZES["small"].items() if k not in changes})
    shapes = {key: list(OBSERVATIONS[key][0]) for key in script.Agent.observations}
    if "player_frames" in shapes:
        shapes["player_frames"][0] = args.frame_stack
    torch.manual_seed(seed)
    agent = script.Agent(shapes, args)
    with torch.no_grad():
        agent.actor.weight.mul_(HEAT)
    content = {"architecture": name, "args": plain_args(args), "observation_shapes": shapes, "global_step": 4096}
    content |= {"agent": agent.state_dict(), "trained_on": checkpoints.keys_of(KNOWN)}
    (folder / "checkpoints").mkdir(parents=True)
    checkpoints.save(folder / checkpoints.BEST, content)
    config = {"architecture": name, "args": plain_args(args), "versions": {"python": "3.11", "torch": "2.9"}}
    (folder / "config.json").write_text(json.dumps(config))
    if results:
        part = summarise([entry(k, k < 3) for k in range(4)])
        content = {"overall": part, "by_category": {"simplest": part, "my|own <b>": part}}
        (folder / "eval_results.json").write_text(json.dumps(content))
    return folder / checkpoints.BEST


def entry(k: int, won: bool) -> dict:
    outcome = {"success": won, "cause": "none", "steps": 9, "frames": 36, "return": 1.0, "gold": 0, "efficiency": 0.5}
    return {"id": f"simplest/{k}", "category": "simplest", "par": None, "success_rate": float(won), "tries": [outcome]}
