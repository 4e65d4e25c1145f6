"""Export an agent to a folder that others can use, with and without this package.

    python -m npp_rl.export RUN_DIR --out DIR

DIR gets `model.safetensors` (the weights), `policy.onnx` (the policy, for any program that runs ONNX), `config.json`
(architecture, arguments, shapes, results, sha256 of the other files), `trained_on.txt` (the levels that the agent
knows) and `README.md`, a model card (Mitchell et al. 2019, arXiv 1810.03993). Commands that take a checkpoint take DIR
too. DIR appears when it is whole.

policy.onnx is checked before that: the agent plays, and ONNX Runtime must choose the same action, the arg max of the
logits, at every one of `--observations` observations. Needs onnx and onnxruntime (extra `export`), but for `--no-onnx`.
"""

import dataclasses
import hashlib
import importlib.util
import io
import json
import math
import re
import shlex
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import safetensors.torch
import torch
import tyro

from npp_rl import bc_pretrain, distill
from npp_rl.agents import load_agents
from npp_rl.commands import ArgumentError, CheckpointError, UserError, command, say
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import ACTIONS
from npp_rl.evaluation.players import agent_policy
from npp_rl.evaluation.suite import BATCH
from npp_rl.files import plain_name, read_json, shown_name
from npp_rl.levels import generator
from npp_rl.levels.categories import CATEGORIES
from npp_rl.training import checkpoints, exported
from npp_rl.training.arguments import FREE_ARGUMENTS, args_from, check_args, plain_args
from npp_rl.training.compiled_layers import padded_graphs

NEEDS = 'needs onnx and onnxruntime: pip install "npp-rl[export]", or --no-onnx'
PATHS = ("train_dataset", "test_dataset", "replay_data_dir", "pretrained_checkpoint", "teacher", "script")
RESULTS = ("levels", "success_rate", "success_low", "success_high")  # of eval_results.json


@dataclass
class Args:
    """Export an agent to a folder that others can use."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN_DIR")]
    """run directory, of which best.pt is exported, or a checkpoint file, an exported folder, or zoo:NAME"""
    out: str
    """new folder"""
    script: str | None = None
    """the agent's script, if its architecture is none of the eight: a path that ends in .py"""
    onnx: bool = True
    """write and check policy.onnx"""
    opset: int = 17
    """version of the ONNX operators"""
    observations: int = 10_000
    """at least so many observations from play at which policy.onnx must choose the agent's action"""
    seed: int = 0
    """seed of the play: levels, sampled actions"""


class _Policy(torch.nn.Module):
    """Observations in their order -> logits. Indices become int64, because ONNX Runtime lacks operators for int16."""

    def __init__(self, agent):
        super().__init__()
        self.agent = agent

    def forward(self, *arrays):
        wide = [array.long() if array.dtype == torch.int16 else array for array in arrays]
        return self.agent.get_logits(dict(zip(self.agent.observations, wide, strict=True)))


def to_onnx(agent: torch.nn.Module, rows: dict[str, np.ndarray], opset: int) -> bytes:
    """An agent's policy as an ONNX model. Inputs: its observations [B, ...] by name. Output: `logits` float32 [B, 6].

    rows: some observations. Graphs are padded (see `pack_graphs`): ONNX has no operators like the compiled kernels.
    Raises ArgumentError for an unknown opset.
    """
    names = list(agent.observations)
    arrays = tuple(torch.from_numpy(rows[name][:2].copy()) for name in names)
    buffer = io.BytesIO()
    with padded_graphs(), torch.no_grad(), warnings.catch_warnings(action="ignore"):  # about traced shapes
        try:
            torch.onnx.export(
                _Policy(agent).eval(),
                arrays,
                buffer,
                input_names=names,
                output_names=["logits"],
                dynamic_axes={name: {0: "batch"} for name in (*names, "logits")},
                opset_version=opset,
                dynamo=False,
            )
        except (ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ArgumentError(f"--opset {opset}: torch {torch.__version__} cannot write it ({reason})") from error
    return buffer.getvalue()


def session_of(model: bytes, place: str):
    """ONNX Runtime's session of a policy. Raises UserError, which names `place`, for a model that it cannot run."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # its errors are raised too
    options.intra_op_num_threads = torch.get_num_threads()
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common type but Exception
        words = " ".join(str(error).split()).rpartition(" : ")[2]  # after a kind of error
        reason = re.sub(r"^/\S+ .*?\) (?=[A-Z])", "", words)[:200]  # after a place in its source
        raise UserError(f"{place}: ONNX Runtime {onnxruntime.__version__} does not run it ({reason})") from error


def play(agent: torch.nn.Module, run: dict, count: int, seed: int):
    """Play with sampled actions, and yield (observations, logits) of BATCH games at a time, `count` in all at least."""
    levels = [generator.generate(category, seed) for category in CATEGORIES]
    rules = {"frame_skip": run["frame_skip"], "gamma": run["gamma"], "frame_stack": run.get("frame_stack", 1)}
    envs = NppVectorEnv(BATCH, levels, agent.observations, **rules, seed=seed, copy=False)
    policy = agent_policy(agent, torch.device("cpu"))
    random = np.random.default_rng(seed)
    observations, _ = envs.reset()
    for _ in range(math.ceil(count / BATCH)):
        logits = policy(observations)
        yield observations, logits
        noise = random.gumbel(size=logits.shape)  # the arg max of logits + noise is a sample
        observations = envs.step((logits + noise).argmax(1))[0]
    envs.close()


def compared(session, agent: torch.nn.Module, run: dict, count: int, seed: int) -> dict:
    """Compare a session with the agent at observations from play -> `observations`, `largest_difference` of logits.

    Raises UserError if they choose another action at any of them, or a logit is not finite.
    """
    seen, other, largest = 0, 0, 0.0
    for observations, logits in play(agent, run, count, seed):
        found = session.run(["logits"], {name: observations[name] for name in agent.observations})[0]
        if found.shape != logits.shape or not (np.isfinite(found).all() and np.isfinite(logits).all()):
            raise UserError(f"{exported.POLICY}: gave logits that are not finite numbers; nothing was written")
        seen += len(logits)
        other += int((found.argmax(1) != logits.argmax(1)).sum())
        largest = max(largest, float(np.abs(found - logits).max()))
    if other:
        raise UserError(
            f"{exported.POLICY}: chooses another action than the agent at {other} of {seen} observations (logits "
            f"differ by up to {largest:.2g}); nothing was written"
        )
    return {"observations": seen, "largest_difference": largest}


def results_of(checkpoint_file: Path) -> dict:
    """Success in the eval_results.json of the run whose best.pt is exported -> `overall`, `by_category`, or {}."""
    place = checkpoint_file.parent.parent / "eval_results.json"
    if checkpoint_file.name != "best.pt" or not place.is_file():
        return {}
    results = read_json(place)
    with checkpoints.restoring(place, "an evaluation"):
        return checked_results({"overall": results["overall"], "by_category": results["by_category"]})


def checked_results(results: dict) -> dict:
    """The figures RESULTS of each part of `results`. Raises TypeError or KeyError if they are no numbers."""

    def figures(part):
        values = {name: part[name] for name in RESULTS}
        for name, value in values.items():
            if value is not None and (isinstance(value, bool) or not math.isfinite(value)):
                raise TypeError(f"{name} is no number")
        return values

    if not results:
        return {}
    categories = {str(name): figures(part) for name, part in results["by_category"].items()}
    return {"overall": figures(results["overall"]), "by_category": categories}


def last_name(value):
    """The last part of a path, or of each of several: what is given away does not tell the maker's folders."""
    if isinstance(value, (list, tuple)):
        return [last_name(one) for one in value]
    if not isinstance(value, str) or value.startswith(exported.PREFIX):
        return value
    return ",".join(Path(part).name for part in value.split(","))


def command_of(script, args: dict) -> str:
    """The command that trains such an agent: its program, and the arguments that differ from their defaults.

    script: the module of the agent's architecture.
    """
    program = distill if "teacher" in args else bc_pretrain if "arch" in args else script
    words = ["python", f"npp_rl/{program.__name__.rpartition('.')[2]}.py"]
    defaults = program.Args()
    default_of = {**plain_args(defaults), **plain_args(script.Args(**script.SIZES.get(args.get("size"), {})))}
    default_of |= plain_args(defaults) if program is not script else {}
    for field in dataclasses.fields(defaults):
        name, value = field.name, last_name(args.get(field.name)) if field.name in PATHS else args.get(field.name)
        default = default_of[name]
        default = list(default) if isinstance(default, tuple) else default
        if name in (*FREE_ARGUMENTS, "exp_name", "cache_dir") or value is None or value == default:
            continue
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(words)


EXAMPLE = """\
import gymnasium
import onnxruntime

policy = onnxruntime.InferenceSession("policy.onnx")
names = [entry.name for entry in policy.get_inputs()]
env = gymnasium.make("npp_rl:npp_rl/Npp-v0", observations=names, frame_skip={frame_skip}, frame_stack={frame_stack})
obs, done = env.reset(seed=1)[0], False
while not done:
    logits = policy.run(["logits"], {{name: obs[name][None] for name in names}})[0]
    obs, reward, terminated, truncated, info = env.step(logits.argmax())
    done = terminated or truncated
print(info["outcome"])
"""


def plain(value) -> str:
    """A value of a file as text of Markdown, in which no character has a meaning."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&-])", r"\\\1", shown_name(str(value)))


def card(config: dict, name: str) -> str:
    """The model card of an exported agent, in Markdown. config: its config.json, without `files`; name: its title."""
    args, shapes = config["args"], config["observation_shapes"]
    sizes = ", ".join(f"{plain(key)} {plain(value)}" for key, value in config["sizes"].items())
    seen = ", ".join(f"`{key}` [{', '.join(map(str, shape))}]" for key, shape in shapes.items())
    known = config["trained_on_levels"]
    known = "not known" if known is None else f"{known:,} levels and their mirror images, in `{exported.SEEN}`"
    data = [f"trained on {plain(last_name(args.get('train_dataset')))}"]
    data += [f"{args['fresh_levels']:,} generated levels at each renewal"] if args.get("fresh_levels") else []
    lines = [
        f"# {plain(name)}",
        "",
        "An agent that plays N++, a physics platformer, in the compiled simulator of NPP-RL. It was exported by "
        "`python -m npp_rl.export`.",
        "",
        "## Model",
        "",
        f"- architecture: {plain(config['architecture'])}, {config['parameters']:,} parameters"
        + (f" ({sizes})" if sizes else ""),
        f"- observations: {seen}",
        f"- actions: {', '.join(f'{k} {action}' for k, action in enumerate(ACTIONS))}, each held for "
        f"{args['frame_skip']} frames of 1/60 s; the arg max of the logits is the greedy action",
        "",
        "## Training",
        "",
        f"- data: {', '.join(data)}",
        f"- trained or chosen on: {known}",
        f"- seed: {plain(args.get('seed'))}",
        f"- environment steps of the exported weights: {plain(config.get('global_step', 'not known'))}",
        f"- made by: `{shown_name(config['command']).replace('`', '')}`",
    ]
    lines += [f"- versions: {plain(config['versions'])}"] if config.get("versions") else []
    lines += ["", "## Results", ""]
    if results := config["results"]:
        lines += [
            f"On the test levels of {plain(last_name(args.get('test_dataset')))}, greedy actions. The intervals are "
            "Wilson's, 95%, over levels, for this one agent: other seeds differ.",
            "",
            "| | levels | success | 95% interval |",
            "| --- | ---: | ---: | --- |",
        ]
        for key, part in [*results["by_category"].items(), ("**overall**", results["overall"])]:
            cell = key if key == "**overall**" else plain(key)
            rate, *ends = (part[one] for one in RESULTS[1:])
            if rate is None or None in ends:
                lines.append(f"| {cell} | {part['levels']} | - | - |")
            else:
                lines.append(f"| {cell} | {part['levels']} | {rate:.1%} | {ends[0]:.0%} to {ends[1]:.0%} |")
    else:
        lines.append("Not measured: the agent is not the best.pt of a finished run.")
    lines += [
        "",
        "## How to run",
        "",
        "With the package, in place of a checkpoint:",
        "",
        "```bash",
        "python -m npp_rl.evaluation --checkpoint THIS_FOLDER --output RESULTS",
        "python -m npp_rl.play --checkpoint THIS_FOLDER",
        f"python npp_rl/ppo_{plain_name(config['architecture'])}.py --pretrained-checkpoint THIS_FOLDER",
        "```",
        "",
    ]
    if onnx := config["onnx"]:
        stack = args.get("frame_stack", 1)
        lines += [
            "Without torch, in the environment of the package, with ONNX Runtime:",
            "",
            "```python",
            EXAMPLE.format(frame_skip=args["frame_skip"], frame_stack=stack).rstrip(),
            "```",
            "",
            f"`{exported.POLICY}` (opset {onnx['opset']}) chose the agent's action at all {onnx['observations']:,} "
            f"observations from play at which both were compared; logits differed by {onnx['largest_difference']:.1g} "
            "at most.",
            "",
        ]
    lines += [
        "## Limits",
        "",
        f"- It knows only the observations of this version of the environment, at {args['frame_skip']} frames a step.",
        "- Levels unlike those that it trained on can be beyond it. In the built-in levels nothing moves; in some of "
        "the generated ones something does.",
        "- Games are chaotic: one other action changes a whole game. Rounding differs between machines and batch "
        "sizes, so single games can end differently, while success over many levels hardly changes.",
    ]
    return "\n".join(lines) + "\n"


def source_of(run: str) -> str:
    """What `load` reads for an argument RUN_DIR: best.pt of a run directory, else the argument itself."""
    best = Path(run) / checkpoints.BEST
    return str(best) if not run.startswith(exported.PREFIX) and best.is_file() else run


def about_run(file: str, checkpoint: dict) -> dict:
    """`results` and `versions` of the run that a checkpoint file belongs to, or those of an exported agent."""
    if exported.is_exported(file):
        with checkpoints.restoring(file, "an exported agent"):
            return {"results": checked_results(checkpoint["results"]), "versions": checkpoint.get("versions")}
    place = Path(file).parent.parent / exported.CONFIG
    versions = read_json(place).get("versions") if place.is_file() else None
    if isinstance(versions, dict):
        versions = ", ".join(f"{name} {version}" for name, version in versions.items())
    return {"results": results_of(Path(file)), "versions": versions if isinstance(versions, str) else None}


def plain_entries(checkpoint: dict) -> dict:
    """The entries of a checkpoint that JSON can hold."""
    kept = {}
    for name, value in checkpoint.items():
        try:
            kept[name] = json.loads(json.dumps(value, allow_nan=False))
        except (TypeError, ValueError):
            continue
    return kept


def main(args: Args) -> None:
    """Write an exported agent. Raises ArgumentError, CheckpointError, UserError, OSError, ModuleNotFoundError."""
    check_args(args)
    if args.onnx and not all(map(importlib.util.find_spec, ("onnx", "onnxruntime"))):
        raise ArgumentError(f"exporting {NEEDS}")
    out = Path(args.out)
    exported.check_new(out, "--out ")
    file = source_of(args.run)
    if not exported.is_exported(file) and not Path(file).exists():
        raise CheckpointError(f"{shown_name(args.run)}: no such run directory or checkpoint file")
    if Path(file).is_dir() and not (Path(file) / exported.WEIGHTS).exists():
        raise CheckpointError(f"{shown_name(args.run)}: expected {checkpoints.BEST} or an exported agent in it")
    checkpoint = checkpoints.load(file)
    ((_, agent, run),) = load_agents([file], named=[args.script] if args.script else ())
    config = plain_entries({key: value for key, value in checkpoint.items() if key not in ("agent", "trained_on")})
    config |= {"format": exported.FORMAT, **about_run(file, checkpoint)}
    given, script = checkpoint["args"], sys.modules[type(agent).__module__]
    config["command"] = checkpoint.get("command") if exported.is_exported(file) else None
    if not isinstance(config["command"], str):
        config["command"] = command_of(script, given)
    own = plain_args(args_from(script.Args, given, file))
    kept = {name: value for name, value in given.items() if name not in FREE_ARGUMENTS or "threads" in name}
    config["args"] = {**{name: value for name, value in own.items() if name not in FREE_ARGUMENTS}, **kept}
    for name in ("replay_data_dir", "pretrained_checkpoint", "teacher", "script"):
        if config["args"].get(name):
            config["args"][name] = last_name(config["args"][name])
    config["sizes"] = {name: own[name] for name in next(iter(script.SIZES.values()))}
    config["parameters"] = sum(parameter.numel() for parameter in agent.parameters())
    config["actions"], config["onnx"] = list(ACTIONS), None
    known = run["trained_on"]
    config["trained_on_levels"] = None if known is None else len(known)
    files = {exported.WEIGHTS: safetensors.torch.save({k: v.contiguous() for k, v in agent.state_dict().items()})}
    if known is not None:
        files[exported.SEEN] = "".join(f"{key}\n" for key in sorted(known)).encode()
    if args.onnx:
        say("comparing policy.onnx with the agent (the first start compiles the simulator, up to a minute)")
        rows = next(play(agent, run, BATCH, args.seed))[0]
        files[exported.POLICY] = to_onnx(agent, {name: array.copy() for name, array in rows.items()}, args.opset)
        session = session_of(files[exported.POLICY], f"--opset {args.opset}")
        config["onnx"] = {"opset": args.opset, **compared(session, agent, run, args.observations, args.seed)}
    write(out, config, files)
    total = sum(map(len, files.values()))
    say(f"written to {out}: {', '.join(sorted((*files, exported.CARD, exported.CONFIG)))} ({total / 1e6:.1f} MB)")


def write(out: Path, config: dict, files: dict[str, bytes]) -> None:
    """Write an exported agent, its card included, as the new folder `out`, which appears when it is whole."""
    files = {**files, exported.CARD: card(config, out.resolve().name).encode(errors="backslashreplace")}
    config = {**config, "files": {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}}
    text = json.dumps(config, indent=2, allow_nan=False) + "\n"
    exported.write(out, {**files, exported.CONFIG: text.encode()})


if __name__ == "__main__":
    command(main, Args)
