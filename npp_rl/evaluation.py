"""Evaluation of a policy on a suite of levels: success, steps, efficiency, safety, failures, per tier and category.

    python -m npp_rl.evaluation --checkpoint RUN_DIR/checkpoints/best.pt
    python -m npp_rl.evaluation --checkpoint RUN_DIR/checkpoints/best.pt --test-dataset DIR --output results/
    python -m npp_rl.evaluation --checkpoint A/checkpoints/best.pt B/checkpoints/best.pt --cost --train-levels
    python -m npp_rl.evaluation --checkpoint A/checkpoints/best.pt B/checkpoints/best.pt --ensemble --output results/

One flipped arg max changes a chaotic game, and a matrix product may round differently at another batch size. So the
policy always sees BATCH rows, the level of index i always in row i % BATCH, where the levels of a row are played one
after the other, and random numbers are drawn per level and try: results do not depend on what is evaluated beside a
level.
"""

import functools
import importlib
import json
import math
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

os.environ.setdefault("GOMP_SPINCOUNT", "100000")  # as in the scripts, and as early: torch reads it when it loads

import numpy as np
import torch
import torch.distributed as dist

from npp_rl import analysis, checkpoints, level_generator, video
from npp_rl.cost import cost, cost_apart  # noqa: F401  (for the scripts)
from npp_rl.env import NppVectorEnv
from npp_rl.games import ACTION_BYTES, CAUSES
from npp_rl.levels import CATEGORIES, Level, LevelError, load_levels, mirrored
from npp_rl.summary import TIER_NAMES, TIERS, comparison, difference, report, scalars, summarise, wilson  # noqa: F401

FILMED_WON, FILMED_LOST = 1, 2  # videos of each category
FILMED_FRAMES = 1200  # of an episode that ran out of time: how it ended shows in its beginning

# Rows of every policy call. A row of the largest network costs a CPU half as much again as in calls of 64, but of fewer
# rows fewer wait for the last level.
BATCH = 16

TRAINING_SAMPLE = 270  # training levels at most that are played for the generalisation gap, as many as test levels


def load_split(
    train_dataset: str, test_dataset: str, holdout_fraction: float, validation_fraction: float
) -> tuple[list[Level], list[Level], list[Level]]:
    """Training, validation and test levels of a run; no two of the three share a level's tiles.

    One data set for both is divided by the hash of the tiles (the built-in one has its own division). Validation levels
    are taken from the training levels, by other bits of the same hash. Raises LevelError.
    """
    test = load_suite(test_dataset, train_dataset, holdout_fraction)
    same = _same_dataset(train_dataset, test_dataset)
    train = load_levels(train_dataset, "train" if same or train_dataset == "builtin" else "all", holdout_fraction)
    seen_in_test = {level.tiles_digest for level in test}
    train = [level for level in train if level.tiles_digest not in seen_in_test]
    validation = [level for level in train if _share(level) < validation_fraction]
    train = [level for level in train if _share(level) >= validation_fraction]
    if not train:
        raise LevelError(f"{train_dataset}: no training level is left beside the test and validation levels")
    analysis.compile_ahead()  # a run's first evaluation is timed: it decides when the training has to end
    return train, validation, test


def compile_ahead(architectures: Sequence[str]) -> None:
    """Compile what runs of these architectures need, so that it does not happen in the time that one of them has."""
    analysis.compile_ahead()
    scripts = [importlib.import_module(f"npp_rl.ppo_{name}") for name in architectures]
    # Types alone decide what is compiled: one environment with all that any of them sees does for all.
    observations = {name for script in scripts for name in script.Agent.observations}
    envs = NppVectorEnv(num_envs=2, levels=[level_generator.generate("simplest", 0)], observations=tuple(observations))
    envs.reset(seed=0)
    envs.step(np.zeros(2, np.int64))
    envs.close()


def _share(level):
    return int(level.tiles_digest[-8:], 16) / 2**32


def training_levels(
    own: list[Level], mirror: bool, generated: int, validation_fraction: float, seed: int
) -> list[Level]:
    """A training set for a while: the data set's own levels, or half of them mirrored, and freshly generated ones.

    About `generated` levels, as many of each category, are made from `seed`; none has the tiles of a built-in test
    level, and those are left out that the data set's validation levels would be taken from (see `load_split`).
    """
    turned = np.random.default_rng(seed).random(len(own)) < 0.5
    levels = [mirrored(level) if mirror and turn else level for level, turn in zip(own, turned, strict=True)]
    each = math.ceil(generated / len(CATEGORIES))
    fresh = level_generator.data_set("train", count=each, seed=seed, more=True) if generated else []
    return levels + [level for level in fresh if _share(level) >= validation_fraction]


def load_suite(test_dataset: str, train_dataset: str, holdout_fraction: float) -> list[Level]:
    """Levels of a test suite: the held-out part where training uses the same data set, else all. Raises LevelError."""
    held_out = test_dataset == "builtin" or _same_dataset(train_dataset, test_dataset)
    return load_levels(test_dataset, "test" if held_out else "all", holdout_fraction)


def _same_dataset(one: str, other: str) -> bool:
    return one == other or (
        "builtin" not in (one, other) and Path(one).expanduser().resolve() == Path(other).expanduser().resolve()
    )


def agent_policy(agent: torch.nn.Module, device: torch.device) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Policy for `evaluate` of an agent with `get_logits`: dict of arrays [BATCH, ...] -> float32 [BATCH, 6]."""

    def policy(observations):
        with torch.no_grad():
            x = {key: torch.from_numpy(value).to(device) for key, value in observations.items()}
            training = agent.training
            agent.eval()  # a graph agent then works on tables of one size
            logits = agent.get_logits(x).float().cpu().numpy()
            agent.train(training)
            return logits

    return policy


class Ensemble(torch.nn.Module):
    """Several agents as one: its logits float32 [B, 6] are the mean of theirs as log-probabilities.

    It reads all observations that any of them reads, `player_frames` of the longest stack; each takes its own. A stack
    begins with copies of the first picture, so that the newest of a longer one are a shorter one.
    """

    def __init__(self, agents: Sequence[torch.nn.Module], frame_stacks: Sequence[int]):
        super().__init__()
        self.agents = torch.nn.ModuleList(agents)
        self.frame_stacks = tuple(frame_stacks)
        self.observations = tuple(dict.fromkeys(name for agent in agents for name in agent.observations))

    def get_logits(self, x):
        logprobs = []
        for agent, stack in zip(self.agents, self.frame_stacks, strict=True):
            own = {name: x[name] for name in agent.observations}
            if "player_frames" in own:
                own["player_frames"] = own["player_frames"][:, -stack:]
            logprobs.append(torch.log_softmax(agent.get_logits(own).double(), 1))
        return torch.stack(logprobs).mean(0).float()


def together(loaded: Sequence[tuple[str, torch.nn.Module, dict]]) -> tuple[Ensemble, dict]:
    """The ensemble of loaded checkpoints (file, agent, arguments of its run), and arguments that fit all of them.

    Raises ArgumentError where they hold actions for different times or were not trained on the same levels: one might
    know what another has never seen.
    """
    (first, _, run), *others = loaded
    for file, _, other in others:
        for name in ("frame_skip", "train_dataset", "test_dataset", "holdout_fraction", "validation_fraction"):
            one, two = run[name], other[name]
            if not (_same_dataset(one, two) if name.endswith("dataset") else one == two):
                raise checkpoints.ArgumentError(
                    f"--ensemble: {first} has {name} {one}, {file} has {two} (expected the same)"
                )
    stacks = [run.get("frame_stack", 1) for _, _, run in loaded]
    return Ensemble([agent for _, agent, _ in loaded], stacks), {**run, "frame_stack": max(stacks)}


def evaluate(
    policy: Callable[[dict[str, np.ndarray]], np.ndarray],
    levels: list[Level],
    *,
    observations: tuple[str, ...],
    frame_skip: int = 4,
    gamma: float = 0.99,
    frame_stack: int = 4,
    deterministic: bool = True,
    seed: int = 0,
    tries: int = 1,
    pars: str | Path | None = None,
    examined: bool = True,
) -> dict:
    """Play every level from its start, `tries` times or greedily once, and summarise (content of eval_results.json).

    `policy` maps observations, a dict of arrays [BATCH, ...], to logits float32 [BATCH, 6]. Greedy actions are the
    first arg max; sampled ones invert the distribution's cumulative sum at a uniform number that depends on `seed`, the
    level's content, the try and the step only. `pars`: a planner's output folder with par times of other levels than
    the built-in ones. Without `examined` it is not found out how episodes failed and what they nearly died of, which
    takes a part of the time (see analysis.py).

    Returns a dict with `overall`, `by_category.<name>` and `by_tier.<name>` (see `summarise`), `levels` (one entry per
    level with its outcomes per try, among them the actions, one digit a step, and what analysis.py finds) and
    `settings`. Raises FloatingPointError where the policy gives NaN, LevelError for no level or no planner's folder.
    """
    if not levels:
        raise LevelError("evaluation: the suite has no level")
    par = level_generator.par_of(levels, pars)
    tries = 1 if deterministic else tries
    envs = NppVectorEnv(
        num_envs=min(BATCH, len(levels)),
        levels=levels,
        observations=observations,
        frame_skip=frame_skip,
        gamma=gamma,
        frame_stack=frame_stack,
        seed=0,
        copy=False,
    )
    episodes = []
    for attempt in range(tries):
        draw = None if deterministic else _uniforms(levels, seed, attempt)
        episodes += [{"level": index, **episode} for index, episode in enumerate(_play(policy, envs, draw))]
    envs.close()
    if examined:
        analysis.examine(levels, [(episode["level"], episode) for episode in episodes], frame_skip)

    entries = []
    for index, level in enumerate(levels):
        own = [episode for episode in episodes if episode["level"] == index]
        outcomes = [{key: value for key, value in episode.items() if key != "level"} for episode in own]
        rate = sum(outcome["success"] for outcome in outcomes) / tries
        entry = {"id": level.id, "category": level.category, "tier": TIERS.get(level.category, "other")}
        entry |= {"title": level.title, "digest": level.digest, "par": par[index]}
        entries.append({**entry, "success_rate": rate, "tries": outcomes})
    names = {"category": [*CATEGORIES, *sorted({level.category for level in levels} - set(CATEGORIES))]}
    names["tier"] = TIER_NAMES

    def by(key):
        parts = {name: [entry for entry in entries if entry[key] == name] for name in names[key]}
        return {name: summarise(part) for name, part in parts.items() if part}

    return {
        "overall": summarise(entries),
        "by_category": by("category"),
        "by_tier": by("tier"),
        "levels": entries,
        "settings": {
            "deterministic": deterministic,
            "seed": seed,
            "tries": tries,
            "frame_skip": frame_skip,
            "gamma": gamma,
        },
    }


def _uniforms(levels, seed, attempt):
    """Function (level, step) -> the level's own stream of uniform numbers there, in steps from 0 on."""

    @functools.cache
    def stream(level):
        return np.random.default_rng(np.random.SeedSequence([seed, attempt, int(levels[level].digest[:32], 16)]))

    drawn = {}  # level: 256 numbers

    def draw(level, step):
        if step % 256 == 0:
            drawn[level] = stream(level).random(256)
        return drawn[level][step % 256]

    return draw


def _play(policy, envs, draw):
    """Outcomes of one episode on each level of `envs`: game r plays the levels r, r + BATCH, and so on."""
    count, games = len(envs.levels), envs.num_envs
    playing = np.arange(games)  # level of each game; beyond the last one it plays on, and nobody looks
    began = np.zeros(games, np.int64)  # step in which its episode did
    observations, _ = envs.reset(options={"levels": playing})
    rows = {key: np.zeros((BATCH, *value.shape[1:]), value.dtype) for key, value in observations.items()}
    outcomes, log = [None] * count, []
    while (running := playing < count).any():
        for key, value in observations.items():
            rows[key][:games] = value
        logits = policy(rows)[:games]
        if not np.isfinite(logits[running]).all():
            raise FloatingPointError(f"evaluation: the policy gave a logit that is not finite at step {len(log)}")
        if draw is None:
            actions = logits.argmax(1)
        else:
            steps = len(log) - began
            uniform = np.array([draw(*at) if at[0] < count else 0.0 for at in zip(playing, steps, strict=True)])
            weights = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
            cumulative = weights.cumsum(1)
            actions = (cumulative < uniform[:, None] * cumulative[:, -1:]).sum(1)
        log.append(actions.astype(np.uint8))
        envs.set_next_levels(np.minimum(playing + BATCH, count - 1))
        observations, _, _, _, infos = envs.step(actions)
        if "_episode" not in infos:
            continue
        for game in np.flatnonzero(infos["_episode"] & running):
            episode = {key: values[game].item() for key, values in infos["episode"].items()}
            efficiency = episode["shortest"] / max(episode["travelled"], 1e-9)
            outcomes[playing[game]] = {
                "success": bool(episode["success"]),
                "cause": CAUSES[episode["cause"]],
                "steps": int(episode["l"]),
                "frames": int(episode["frames"]),
                "return": round(float(episode["r"]), 6),
                "gold": int(episode["gold"]),
                "efficiency": round(min(1.0, efficiency), 6) if episode["success"] else None,
                "actions": "".join(str(row[game]) for row in log[began[game] :]),
            }
            playing[game] += BATCH
            began[game] = len(log)
    return outcomes


def generalisation(policy: Callable, train_levels: Sequence[Level], results: dict, **rules) -> dict:
    """Play training levels as `results` were played on others: `train` (see `summarise`), `gap`, `gap_low`, `gap_high`.

    The gap is success there less success here, with its 95% interval. Played is a fixed sample, TRAINING_SAMPLE levels
    at most, those of least digest, with as many levels of each category as there are here, or all that there are; the
    gap is the mean over the categories of both, each weighted by its levels here, so that like is compared with like.
    Where the categories have nothing in common, any levels are compared. rules: arguments of `evaluate`.
    """
    here = Counter(entry["category"] for entry in results["levels"])
    share = min(1.0, TRAINING_SAMPLE / here.total())
    ordered = sorted(train_levels, key=lambda level: level.digest)
    sample = []
    for name, count in here.items():
        sample += [level for level in ordered if level.category == name][: max(1, int(share * count))]
    played = evaluate(policy, sample or ordered[:TRAINING_SAMPLE], **rules)
    train, test = played["by_category"], results["by_category"]
    if not (common := [name for name in train if name in test]):
        train, test, common = {"": played["overall"]}, {"": results["overall"]}, [""]
    weight = {name: test[name]["levels"] / sum(test[k]["levels"] for k in common) for name in common}
    rate, other = (sum(weight[name] * part[name]["success_rate"] for name in common) for part in (train, test))
    # As many levels as give a plain rate the same variance.
    n, m = (1 / sum(weight[name] ** 2 / part[name]["levels"] for name in common) for part in (train, test))
    low, high = difference(rate * n, n, other * m, m)
    return {"train": played["overall"], "gap": rate - other, "gap_low": low, "gap_high": high}


EPISODE_MEANS = {  # metric: key in infos["episode"]
    "charts/episodic_return": "r",
    "charts/episodic_length": "l",
    "charts/success_rate": "success",
    "reward/completion": "r_completion",
    "reward/death": "r_death",
    "reward/switch": "r_switch",
    "reward/time": "r_time",
    "reward/distance": "r_distance",
    "reward/shaping": "r_shaping",
    "reward/idle": "r_idle",
}


def episode_metrics(episodes: list[dict], levels: Sequence[Level], device: torch.device) -> dict[str, float]:
    """Metrics over training episodes, of all ranks together; one over no episode is left out.

    episodes: columns of infos["episode"], one dict for each step in which episodes ended. levels: those they were on.
    """
    categories = sorted({level.category for level in levels})
    category_of_level = np.array([categories.index(level.category) for level in levels])

    def column(key):
        return np.concatenate([part[key] for part in episodes]) if episodes else np.zeros(0, np.int64)

    category = category_of_level[column("level")]
    sums = [
        [len(category)],
        [column(key).sum(dtype=float) for key in EPISODE_MEANS.values()],
        np.bincount(category, minlength=len(categories)),
        np.bincount(category, column("success"), minlength=len(categories)),
        np.bincount(column("cause"), minlength=len(CAUSES)),
    ]
    lengths = [len(part) for part in sums]
    sums = torch.from_numpy(np.concatenate(sums)).to(device)
    if dist.is_initialized():
        dist.all_reduce(sums)
    (count,), means, played, won, causes = (part.tolist() for part in sums.split(lengths))
    metrics = {"charts/episodes": count}
    if count:
        metrics |= {name: total / count for name, total in zip(EPISODE_MEANS, means, strict=True)}
        metrics |= {f"deaths/{name}": n / count for name, n in zip(CAUSES[1:], causes[1:], strict=True)}
    return metrics | {f"success/{name}": w / n for name, n, w in zip(categories, played, won, strict=True) if n}


def write_results(
    results: dict, folder: str | Path, title: str, about: dict[str, str], filmed: Sequence[Level] = ()
) -> None:
    """Write eval_results.json (for programs) and report.md (for people) into `folder`, each atomically.

    filmed: the suite's levels, of which `film` then writes videos.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoints.write_json(folder / "eval_results.json", results)
    text = report(results, title, about).encode(errors="backslashreplace")
    checkpoints.write_atomically(folder / "report.md", text)
    if filmed:
        film(results, filmed, folder / "videos")


def check_video(wanted: bool) -> None:
    """Raise ArgumentError where videos are wanted that cannot be written."""
    if wanted and not video.available():
        raise checkpoints.ArgumentError(f"--capture-video: {video.NEEDS}")


def film(results: dict, levels: Sequence[Level], folder: str | Path) -> list[Path]:
    """Write videos of some of the episodes in `results` of `levels` -> their files, FOLDER/<level>__<outcome>.mp4.

    Of each category the first FILMED_WON episodes that were won and the first FILMED_LOST that were not; of those that
    ran out of time the first FILMED_FRAMES. Their actions are played again in the simulator, frame by frame.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    left = {}
    written = []
    for level, entry in zip(levels, results["levels"], strict=True):
        outcome = entry["tries"][0]
        kind = (level.category, outcome["success"])
        left.setdefault(kind, FILMED_WON if outcome["success"] else FILMED_LOST)
        if not left[kind]:
            continue
        left[kind] -= 1
        how, frames = "won", outcome["frames"]
        if outcome["cause"] != CAUSES[0]:
            how = f"died_{outcome['cause']}"
        elif not outcome["success"]:
            how, frames = "out_of_time", min(frames, FILMED_FRAMES)
        keys = ACTION_BYTES[np.array(list(outcome["actions"]), np.int64)]
        inputs = np.repeat(keys, results["settings"]["frame_skip"])[:frames].tobytes()
        path = folder / f"{re.sub(r'[^A-Za-z0-9_.-]+', '_', level.id)}__{how}.mp4"
        video.write_video(path, video.game_pictures(level.map_data, inputs, level.id))
        written.append(path)
    return written


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


def device_of(name: str) -> torch.device:
    """Raises ArgumentError for a GPU that is not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise checkpoints.ArgumentError("--device cuda: no CUDA device is available")
    return torch.device(name)


def _prepare(args: Args, files: list[str], agent, run) -> _Player:
    """Levels and folder of an evaluation; what cannot be done is refused here, before anything is played."""
    dataset = run["test_dataset"] if args.test_dataset is None else args.test_dataset
    levels = load_suite(dataset, run["train_dataset"], run["holdout_fraction"])
    present = {level.category for level in levels}
    for name in args.categories:
        if name not in present:
            raise checkpoints.ArgumentError(f"--categories {name}: {dataset} has only {', '.join(sorted(present))}")
    if args.categories:
        levels = [level for level in levels if level.category in args.categories]
    run_dir = Path(files[0]).resolve().parent.parent
    name = f"ensemble of {len(files)}" if args.ensemble else f"{run_dir.name}/{Path(files[0]).stem}"
    own_suite = not (args.sampled or args.categories) and _same_dataset(dataset, run["test_dataset"])
    if args.output:
        alone = args.ensemble or len(args.checkpoint) == 1
        folder = Path(args.output) if alone else Path(args.output) / name.replace("/", "__")
    elif args.ensemble:
        raise checkpoints.ArgumentError("--ensemble: belongs to no run directory, so --output is needed")
    elif not (run_dir / "config.json").is_file():
        raise checkpoints.ArgumentError(f"--checkpoint {files[0]}: in no run directory, so --output is needed")
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


def main(args: Args) -> list[dict]:
    """Evaluate checkpoints, write the results, return them. Raises CheckpointError, LevelError, OSError."""
    checkpoints.check_args(args)
    if not args.checkpoint:
        raise checkpoints.ArgumentError("--checkpoint: expected at least one file")
    if args.tries > 1 and not args.sampled:
        raise checkpoints.ArgumentError(f"--tries {args.tries}: needs --sampled (greedy actions repeat themselves)")
    device = device_of(args.device)
    check_video(args.capture_video)
    level_generator.par_of([], args.pars)
    loaded = [(file, *checkpoints.load_agent(file, device)) for file in args.checkpoint]
    if args.ensemble:
        players = [_prepare(args, [file for file, _, _ in loaded], *together(loaded))]
    else:
        players = [_prepare(args, [file], agent, run) for file, agent, run in loaded]
    places = Counter(player.folder.resolve() for player in players)
    for player in players:
        if places[player.folder.resolve()] > 1:
            raise checkpoints.ArgumentError(
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
    checkpoints.command(main, Args)
