"""Evaluate checkpoints on a suite of levels; `python -m npp_rl.evaluation --help` lists the flags."""

import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from npp_rl.agents import load_agents
from npp_rl.commands import ArgumentError, LevelError, command
from npp_rl.evaluation import analysis
from npp_rl.evaluation.players import agent_policy, device_of, together
from npp_rl.evaluation.result_files import check_video, write_results
from npp_rl.evaluation.search_report import search_section
from npp_rl.evaluation.suite import evaluate, generalisation
from npp_rl.evaluation.summary import comparison, leave_out, note_near_copies, report
from npp_rl.files import read_json
from npp_rl.levels import builtin
from npp_rl.levels.datasets import MOST_COMPARED, load_split, load_suite
from npp_rl.levels.maps import Level
from npp_rl.levels.sources import absolute, parts_of, same_dataset
from npp_rl.planning import guided
from npp_rl.training import exported
from npp_rl.training.arguments import check_args


@dataclass
class Args:
    checkpoint: tuple[str, ...]
    """checkpoint files, such as RUN_DIR/checkpoints/best.pt, or exported agents: folders or zoo:NAME; several are
    evaluated in turn and compared"""
    script: tuple[str, ...] = ()
    """scripts of checkpoints whose architecture is none of the eight, each a path that ends in .py"""
    ensemble: bool = False
    """evaluate the checkpoints as one agent that averages their log-probabilities, and each of them beside it"""
    vote: bool = False
    """with --ensemble: the agents vote with their likeliest actions, instead; the average decides ties"""
    members: bool = True
    """with --ensemble: play the levels with each agent alone too"""
    test_dataset: str | None = None
    """`builtin` or a folder of levels; those that the run trained on count in nothing (default: the run's own suite)"""
    output: str | None = None
    """folder of the results; several checkpoints have a folder each in it (default: the run directory for best.pt of a
    finished run on its own suite, else a folder in the run directory; for exported agents a folder in `runs`)"""
    categories: tuple[str, ...] = ()
    """evaluate only these categories"""
    sampled: bool = False
    """sample actions from the policy instead of taking the most likely one"""
    tries: int = 1
    """episodes per level with --sampled"""
    seed: int = 0
    """seed of the sampled actions"""
    device: Literal["cpu", "cuda"] = "cpu"
    """where the policy runs"""
    search: float | None = None
    """seconds of CPU time for a level: let the policy, or the ensemble, guide a search too, whose wins go to
    search_results.json and a section of their own in the report"""
    pars: str | None = None
    """planner's output folder with par times of levels that are not built in"""
    train_levels: bool = False
    """also play a sample of the training levels, and report the generalisation gap"""
    cost: bool = False
    """measure parameters, operations, latency and memory"""
    pictures: int = 0
    """number of pictures of lost levels, for each category and kind of failure, in the results' folder"""
    capture_video: bool = False
    """record videos of won and lost episodes of each category in the results' folder"""


@dataclass
class _Player:
    """One agent to evaluate, with its levels and its folder."""

    name: str  # its name in the comparison
    files: list[str]
    agent: torch.nn.Module
    run: dict  # arguments of the run that trained it
    levels: list[Level]
    dataset: str
    folder: Path
    members: list[tuple[str, torch.nn.Module, dict]]  # of an ensemble of several: file, agent, arguments of its run


def _prepare(args: Args, files: list[str], agent, run, members=()) -> _Player:
    """Choose levels and folder of an evaluation. Raises ArgumentError before anything is played."""
    dataset = run["test_dataset"] if args.test_dataset is None else args.test_dataset
    # What the run divided into training and test levels is divided here. What it trained on whole is played whole.
    tested = {absolute(part) for part in parts_of(run["test_dataset"])}
    divided = [part for part in parts_of(run["train_dataset"]) if absolute(part) in tested]
    levels = load_suite(dataset, ",".join(divided) or "builtin", run["holdout_fraction"])
    present = {level.category for level in levels}
    for name in args.categories:
        if name not in present:
            raise ArgumentError(f"--categories {name}: {dataset} has only {', '.join(sorted(present))}")
    if args.categories:
        levels = [level for level in levels if level.category in args.categories]
    alone = exported.folder_of(files[0]).resolve().name if exported.is_exported(files[0]) else None
    run_dir = Path(files[0]).resolve().parent.parent
    name = f"ensemble of {len(files)}" if args.ensemble else alone or f"{run_dir.name}/{Path(files[0]).stem}"
    own_suite = not (args.sampled or args.categories) and same_dataset(dataset, run["test_dataset"])
    if args.output:
        one = args.ensemble or len(args.checkpoint) == 1
        folder = Path(args.output) if one else Path(args.output) / name.replace("/", "__")
    elif args.ensemble:
        raise ArgumentError("--ensemble: belongs to no run directory, so --output is needed")
    elif alone:
        folder = Path("runs") / f"{alone}__eval_{Path(dataset).name}"
    elif not (run_dir / "config.json").is_file():
        raise ArgumentError(f"--checkpoint {files[0]}: in no run directory, so --output is needed")
    else:
        # Results in the run directory itself mark the run as done and enter comparisons with other runs.
        stem, ended = Path(files[0]).stem, (run_dir / "report.md").is_file()
        beside = f"eval_{Path(dataset).name}" + ("" if stem == "best" else f"_{stem}")
        folder = run_dir if own_suite and stem == "best" and ended else run_dir / beside
    return _Player(name, files, agent, run, levels, dataset, folder, list(members))


def _earlier(folder, results):
    """The results in `folder` if they are of the same games with the same outcomes, else {}."""
    try:
        earlier = read_json(folder / "eval_results.json")
        same = all(earlier[key] == json.loads(json.dumps(results[key])) for key in ("levels", "settings"))
        return earlier if same else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return {}


def _train_levels(args, run):
    """The levels that the run trained on, without generated ones; none, with a line on stderr, if they are gone."""
    names = ("train_dataset", "test_dataset", "holdout_fraction", "validation_fraction")
    try:
        return load_split(*(run[name] for name in names))[0]
    except LevelError as error:
        if args.train_levels:
            raise
        print(f"near-copies of training levels were not looked for: {error}", file=sys.stderr)
        return []


def _rules(args: Args, agent, run: dict) -> dict:
    """What `evaluate` is told of an agent and the games that it plays."""
    rules = {"observations": agent.observations, "frame_stack": run.get("frame_stack", 1)}
    rules |= {name: run[name] for name in ("frame_skip", "gamma")}
    rules |= {name: getattr(args, name) for name in ("seed", "tries", "pars")}
    return rules | {"deterministic": not args.sampled}


def _alone(args: Args, player: _Player, device: torch.device) -> list[dict]:
    """What each agent of an ensemble wins alone on the same levels: `checkpoint`, and parts of eval_results.json."""
    found = []
    for file, agent, run in player.members:
        rules = _rules(args, agent, run)
        results = evaluate(agent_policy(agent, device), player.levels, **rules, examined=False)
        leave_out(results, player.levels, player.run["trained_on"])  # the same levels count for all
        found.append({"checkpoint": file, **{key: results[key] for key in ("overall", "by_category", "by_tier")}})
    return found


def _play_and_write(args: Args, player: _Player, device: torch.device) -> dict:
    run = player.run
    rules = _rules(args, player.agent, run)
    policy = agent_policy(player.agent, device)
    began = time.process_time()
    results = evaluate(policy, player.levels, **rules)
    seconds = time.process_time() - began
    leave_out(results, player.levels, run["trained_on"])
    train_levels = _train_levels(args, run)
    if len(train_levels) * len(player.levels) <= MOST_COMPARED:
        note_near_copies(results, train_levels, player.levels)
    if player.members:
        results["members"] = _alone(args, player, device)
    if args.train_levels and not results["overall"]["levels"]:
        print("--train-levels: no gap, because none of these levels counts", file=sys.stderr)
    elif args.train_levels:
        if args.categories:
            train_levels = [level for level in train_levels if level.category in args.categories]
        results["generalisation"] = generalisation(policy, train_levels, results, **rules)
    if args.pictures:
        results["pictures"] = analysis.draw_failures(results, player.levels, player.folder / "failures", args.pictures)
    title = f"{'ensemble' if args.ensemble else run['exp_name']} on {player.dataset}"
    about = {"checkpoint": ", ".join(player.files)}
    if args.ensemble:
        about["ensemble"] = "the agents vote" if args.vote else "mean of the agents' log-probabilities"
    try:
        if args.cost:  # after all compiling, which takes memory
            results["cost"] = cost_apart(player.files, args.device, args.script)
    finally:  # keep these results, and the earlier results of the same games
        results |= {key: value for key, value in _earlier(player.folder, results).items() if key not in results}
        filmed = player.levels if args.capture_video else ()
        write_results(results, player.folder, title, about, () if args.search else filmed)
    more = ()
    if args.search:
        found = guided.search_suite(policy, player.levels, results, seconds, args.search, rules)
        found["settings"]["checkpoint"] = about["checkpoint"]
        write_results(results, player.folder, title, about, filmed, found=found)
        more = search_section(found)
    print(report(results, title, about, more))
    print(f"written to {player.folder}")
    return results


def cost_apart(files: Sequence[str], device: str, scripts: Sequence[str] = ()) -> dict:
    """`cost` of the agent in a checkpoint file, or of the ensemble in several files. scripts: those of `--script`.

    It is measured in another process, whose peak memory is the agent's. Raises ArgumentError if that process fails.
    """
    words = [sys.executable, "-m", "npp_rl.cost", "--checkpoint", *files, "--device", device]
    words += ["--script", *scripts] if scripts else []
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it was killed"])[-1]
        raise ArgumentError(f"--cost: measuring {', '.join(files)} failed: {reason}")
    return json.loads(done.stdout)


def main(args: Args) -> list[dict]:
    """Evaluate checkpoints, write results, return them. Raises ArgumentError, CheckpointError, LevelError, OSError."""
    check_args(args)
    if not args.checkpoint:
        raise ArgumentError("--checkpoint: expected at least one file")
    if args.vote and not args.ensemble:
        raise ArgumentError("--vote: needs --ensemble")
    if args.search and args.sampled:
        raise ArgumentError("--search: reported beside greedy play, so it does not go with --sampled")
    if args.tries > 1 and not args.sampled:
        raise ArgumentError(f"--tries {args.tries}: needs --sampled (greedy actions repeat themselves)")
    device = device_of(args.device)
    check_video(args.capture_video)
    builtin.par_of([], args.pars)
    loaded = load_agents(args.checkpoint, device, args.script)
    if args.ensemble:
        members = loaded if args.members and len(loaded) > 1 else ()
        players = [_prepare(args, [file for file, _, _ in loaded], *together(loaded, args.vote), members)]
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
        with tempfile.TemporaryFile(dir=player.folder):  # fail before the games are played, not after
            pass
    analysis.compile_ahead()
    if args.search:  # no level pays for it
        guided.compile_ahead(tuple(dict.fromkeys(name for player in players for name in player.agent.observations)))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a run's own evaluations: the number can change how matrix products round
    results = [_play_and_write(args, player, device) for player in players]
    torch.set_num_threads(threads)
    if len(players) > 1:
        print(comparison({player.name: result for player, result in zip(players, results, strict=True)}))
    return results


if __name__ == "__main__":
    command(main, Args)
