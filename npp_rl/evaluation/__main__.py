"""The command of evaluation; `python -m npp_rl.evaluation --help` lists its flags."""

import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from npp_rl.agents import load_agent
from npp_rl.commands import ArgumentError, command
from npp_rl.evaluation import analysis
from npp_rl.evaluation.players import agent_policy, device_of, together
from npp_rl.evaluation.result_files import check_video, write_results
from npp_rl.evaluation.suite import evaluate, generalisation
from npp_rl.evaluation.summary import comparison, report
from npp_rl.levels import builtin
from npp_rl.levels.datasets import load_split, load_suite, same_dataset
from npp_rl.levels.maps import Level
from npp_rl.training.arguments import check_args


@dataclass
class Args:
    checkpoint: tuple[str, ...]
    """checkpoint files, such as RUN_DIR/checkpoints/best.pt; several are evaluated one after the other and compared"""
    ensemble: bool = False
    """evaluate the checkpoints as one: the mean of their log-probabilities decides"""
    test_dataset: str | None = None
    """`builtin` or a folder of levels (default: the run's own suite)"""
    output: str | None = None
    """folder of the results (default: the run directory, for best.pt of a run that has ended on its own suite; else a
    folder in it); of several checkpoints, each has a folder in it"""
    categories: tuple[str, ...] = ()
    """evaluate only these categories"""
    sampled: bool = False
    """sample actions from the policy instead of taking the likeliest"""
    tries: int = 1
    """episodes per level with --sampled"""
    seed: int = 0
    """seed of the sampled actions"""
    device: Literal["cpu", "cuda"] = "cpu"
    """where the policy runs"""
    pars: str | None = None
    """a planner's output folder: par times of levels that are not built in"""
    train_levels: bool = False
    """play a sample of the training levels too: the generalisation gap"""
    cost: bool = False
    """measure parameters, operations, latency and memory"""
    pictures: int = 0
    """pictures of lost levels to write into the results' folder, of each category and way of failing"""
    capture_video: bool = False
    """write videos of some episodes, won and lost ones of each category, into the results' folder"""


@dataclass
class _Player:
    """What one evaluation of the command needs."""

    name: str  # in the comparison
    files: list[str]
    agent: torch.nn.Module
    run: dict  # arguments of the run that trained it
    levels: list[Level]
    dataset: str
    folder: Path


def _prepare(args: Args, files: list[str], agent, run) -> _Player:
    """Levels and folder of an evaluation; what cannot be done is refused here, before anything is played."""
    dataset = run["test_dataset"] if args.test_dataset is None else args.test_dataset
    levels = load_suite(dataset, run["train_dataset"], run["holdout_fraction"])
    present = {level.category for level in levels}
    for name in args.categories:
        if name not in present:
            raise ArgumentError(f"--categories {name}: {dataset} has only {', '.join(sorted(present))}")
    if args.categories:
        levels = [level for level in levels if level.category in args.categories]
    run_dir = Path(files[0]).resolve().parent.parent
    name = f"ensemble of {len(files)}" if args.ensemble else f"{run_dir.name}/{Path(files[0]).stem}"
    own_suite = not (args.sampled or args.categories) and same_dataset(dataset, run["test_dataset"])
    if args.output:
        alone = args.ensemble or len(args.checkpoint) == 1
        folder = Path(args.output) if alone else Path(args.output) / name.replace("/", "__")
    elif args.ensemble:
        raise ArgumentError("--ensemble: belongs to no run directory, so --output is needed")
    elif not (run_dir / "config.json").is_file():
        raise ArgumentError(f"--checkpoint {files[0]}: in no run directory, so --output is needed")
    else:
        # The run directory's own results say that the run is done, and compare it with others.
        stem, ended = Path(files[0]).stem, (run_dir / "report.md").is_file()
        beside = f"eval_{Path(dataset).name}" + ("" if stem == "best" else f"_{stem}")
        folder = run_dir if own_suite and stem == "best" and ended else run_dir / beside
    return _Player(name, files, agent, run, levels, dataset, folder)


def _earlier(folder, results):
    """The results in `folder` where they are of the same games with the same outcomes, else {}."""
    try:
        earlier = json.loads((folder / "eval_results.json").read_text())
        same = all(earlier[key] == json.loads(json.dumps(results[key])) for key in ("levels", "settings"))
        return earlier if same else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _play_and_write(args: Args, player: _Player, device: torch.device) -> dict:
    run = player.run
    rules = {
        "observations": player.agent.observations,
        "frame_skip": run["frame_skip"],
        "gamma": run["gamma"],
        "frame_stack": run.get("frame_stack", 1),
        "deterministic": not args.sampled,
        "seed": args.seed,
        "tries": args.tries,
        "pars": args.pars,
    }
    policy = agent_policy(player.agent, device)
    results = evaluate(policy, player.levels, **rules)
    if args.train_levels:
        data = (run[name] for name in ("train_dataset", "test_dataset", "holdout_fraction", "validation_fraction"))
        train_levels = load_split(*data)[0]
        if args.categories:
            train_levels = [level for level in train_levels if level.category in args.categories]
        results["generalisation"] = generalisation(policy, train_levels, results, **rules)
    if args.pictures:
        results["pictures"] = analysis.draw_failures(results, player.levels, player.folder / "failures", args.pictures)
    title = f"{'ensemble' if args.ensemble else run['exp_name']} on {player.dataset}"
    about = {"checkpoint": ", ".join(player.files)}
    try:
        if args.cost:  # now, when nothing has to be compiled any more, which takes memory
            results["cost"] = cost_apart(player.files, args.device)
    finally:  # what was played is kept, as is what else is known of the same games
        results |= {key: value for key, value in _earlier(player.folder, results).items() if key not in results}
        write_results(results, player.folder, title, about, player.levels if args.capture_video else ())
    print(report(results, title, about))
    print(f"written to {player.folder}")
    return results


def cost_apart(files: Sequence[str], device: str) -> dict:
    """`cost` of the agent in a checkpoint file, or of the ensemble in several, in a process of its own.

    So its peak memory is its own. Raises ArgumentError where that process fails.
    """
    words = [sys.executable, "-m", "npp_rl.cost", "--checkpoint", *files, "--device", device]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise ArgumentError(f"--cost: measuring {', '.join(files)} failed: {reason}")
    return json.loads(done.stdout)


def main(args: Args) -> list[dict]:
    """Evaluate checkpoints, write the results, return them. Raises CheckpointError, LevelError, OSError."""
    check_args(args)
    if not args.checkpoint:
        raise ArgumentError("--checkpoint: expected at least one file")
    if args.tries > 1 and not args.sampled:
        raise ArgumentError(f"--tries {args.tries}: needs --sampled (greedy actions repeat themselves)")
    device = device_of(args.device)
    check_video(args.capture_video)
    builtin.par_of([], args.pars)
    loaded = [(file, *load_agent(file, device)) for file in args.checkpoint]
    if args.ensemble:
        players = [_prepare(args, [file for file, _, _ in loaded], *together(loaded))]
    else:
        players = [_prepare(args, [file], agent, run) for file, agent, run in loaded]
    places = Counter(player.folder.resolve() for player in players)
    for player in players:
        if places[player.folder.resolve()] > 1:
            raise ArgumentError(
                f"--checkpoint {player.files[0]}: another one's results belong to {player.folder} too "
                "(expected files of different names or runs, and --output)"
            )
        player.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=player.folder):  # refused before the games are played, not after
            pass
    analysis.compile_ahead()
    threads = torch.get_num_threads()
    results = []
    for player in players:
        # As many threads as the run asked for in its own evaluations: a matrix product may round differently with
        # others.
        torch.set_num_threads(player.run["inference_threads"] or threads)
        results.append(_play_and_write(args, player, device))
    torch.set_num_threads(threads)
    if len(players) > 1:
        print(comparison({player.name: result for player, result in zip(players, results, strict=True)}))
    return results


if __name__ == "__main__":
    command(main, Args)
