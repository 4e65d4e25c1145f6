"""Evaluation of a policy on a suite of levels: success, steps, efficiency and safety, per category and overall.

    python -m npp_rl.evaluation --checkpoint RUN_DIR/checkpoints/best.pt
    python -m npp_rl.evaluation --checkpoint RUN_DIR/checkpoints/best.pt --test-dataset DIR --output results/

One flipped arg max changes a chaotic game, and a matrix product may round differently at another batch size. So the
policy always sees BATCH rows, the level of index i always in row i % BATCH, and random numbers are drawn per level and
try: results depend neither on the number of environments nor on what is evaluated beside a level.
"""

import math
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.distributed as dist

from npp_rl import checkpoints, level_generator, video
from npp_rl.env import ACTION_BYTES, CAUSES, NppVectorEnv
from npp_rl.levels import CATEGORIES, Level, LevelError, load_levels, mirrored

FILMED_WON, FILMED_LOST = 1, 2  # videos of each category
FILMED_FRAMES = 1200  # of an episode that ran out of time: how it ended shows in its beginning

# Rows of every policy call, enough for full speed on a CPU.
BATCH = 128


def wilson(successes: float, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Wilson's score interval (1927, JASA 22:209) of a success rate; 95% by default. `n` = 0 gives (0, 1)."""
    if n == 0:
        return 0.0, 1.0
    rate = successes / n
    centre = (rate + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


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
    return train, validation, test


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
    fresh = level_generator.data_set("train", count=each, seed=seed) if generated else []
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
    num_envs: int = 1024,
) -> dict:
    """Play every level from its start, `tries` times or greedily once, and summarise (content of eval_results.json).

    `policy` maps observations, a dict of arrays [BATCH, ...], to logits float32 [BATCH, 6]. Greedy actions are the
    first arg max; sampled ones invert the distribution's cumulative sum at a uniform number that depends on `seed`, the
    level's content, the try and the step only. `num_envs` bounds how many levels are in memory at once.

    Returns a dict with `overall` and `by_category.<name>` (see `summarise`), `levels` (one entry per level with its
    outcomes per try, among them the actions, one digit a step) and `settings`. Raises FloatingPointError where the
    policy gives NaN.
    """
    if not levels:
        raise LevelError("evaluation: the suite has no level")
    tries = 1 if deterministic else tries
    num_envs = min(num_envs, len(levels))
    envs = NppVectorEnv(
        num_envs=num_envs,
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
        for first in range(0, len(levels), num_envs):
            count = min(num_envs, len(levels) - first)
            draw = None if deterministic else _uniforms(levels[first : first + count], seed, attempt)
            for episode in _play(policy, envs, first, count, draw):
                episodes.append({"level": len(episodes) % len(levels), **episode})
    envs.close()

    entries = []
    for index, level in enumerate(levels):
        own = [episode for episode in episodes if episode["level"] == index]
        outcomes = [{key: value for key, value in episode.items() if key != "level"} for episode in own]
        rate = sum(outcome["success"] for outcome in outcomes) / tries
        entry = {"id": level.id, "category": level.category, "title": level.title, "digest": level.digest}
        entries.append({**entry, "success_rate": rate, "tries": outcomes})
    names = [name for name in CATEGORIES if any(level.category == name for level in levels)]
    names += sorted({level.category for level in levels} - set(CATEGORIES))
    return {
        "overall": summarise(entries),
        "by_category": {name: summarise([e for e in entries if e["category"] == name]) for name in names},
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
    """Function step -> float64 [len(levels)]: each level's own stream of uniform numbers, drawn 256 steps at a time."""
    streams = [
        np.random.default_rng(np.random.SeedSequence([seed, attempt, int(level.digest[:32], 16)])) for level in levels
    ]
    chunk = np.zeros((256, len(levels)))

    def draw(step):
        if step % 256 == 0:
            for column, stream in enumerate(streams):
                chunk[:, column] = stream.random(256)
        return chunk[step % 256]

    return draw


def _play(policy, envs, first, count, draw):
    """Outcomes of one episode on each of the levels `first` ... `first + count - 1`, slot 0 holding level `first`."""
    slots = np.zeros(envs.num_envs, np.int64)
    slots[:count] = np.arange(first, first + count)
    observations, _ = envs.reset(options={"levels": slots})
    # One policy call per run of levels that fill (a part of) the same BATCH rows.
    calls = []
    for start in range(first - first % BATCH, first + count, BATCH):
        begin, end = max(start, first), min(start + BATCH, first + count)
        calls.append((slice(begin - first, end - first), slice(begin - start, end - start)))
    rows = {key: np.zeros((BATCH, *value.shape[1:]), value.dtype) for key, value in observations.items()}
    actions = np.zeros(envs.num_envs, np.int64)
    running = np.zeros(envs.num_envs, bool)
    running[:count] = True
    outcomes, log = [None] * count, []
    step = 0
    while running.any():
        uniform = draw(step) if draw else None
        for slot, row in calls:
            if not running[slot].any():
                continue
            for key, value in observations.items():
                rows[key][row] = value[slot]
            logits = policy(rows)[row]
            if not np.isfinite(logits).all():
                raise FloatingPointError(f"evaluation: the policy gave a logit that is not finite at step {step}")
            if uniform is None:
                actions[slot] = logits.argmax(1)
            else:
                weights = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
                cumulative = weights.cumsum(1)
                actions[slot] = (cumulative < uniform[slot, None] * cumulative[:, -1:]).sum(1)
        log.append(actions.astype(np.uint8))
        observations, _, _, _, infos = envs.step(actions)
        step += 1
        if "_episode" not in infos:
            continue
        for slot in np.flatnonzero(infos["_episode"] & running):
            running[slot] = False
            episode = {key: values[slot].item() for key, values in infos["episode"].items()}
            outcomes[slot] = {
                "success": bool(episode["success"]),
                "cause": CAUSES[episode["cause"]],
                "steps": int(episode["l"]),
                "frames": int(episode["frames"]),
                "return": round(float(episode["r"]), 6),
                "gold": int(episode["gold"]),
                "efficiency": None,
                "actions": "".join(str(row[slot]) for row in log),
            }
            if episode["success"]:
                efficiency = episode["shortest"] / max(episode["travelled"], 1e-9)
                outcomes[slot]["efficiency"] = round(min(1.0, efficiency), 6)
    return outcomes


def summarise(entries: list[dict]) -> dict:
    """Figures over levels: a level is the unit, so several tries on one level narrow no interval.

    `success_rate` with Wilson's 95% interval `success_low`, `success_high`; over won episodes `steps` and `frames` to
    finish and `efficiency`, the px of the level's shortest way along free space divided by the px travelled, at most 1
    (means); over all episodes `death_rate`, `timeout_rate`, `safety` (share without a death), `deaths` (cause ->
    count), `return` (mean). A mean over nothing is None.
    """
    outcomes = [outcome for entry in entries for outcome in entry["tries"]]
    won = [outcome for outcome in outcomes if outcome["success"]]
    deaths = Counter(
        outcome["cause"] for outcome in outcomes if not outcome["success"] and outcome["cause"] != CAUSES[0]
    )
    success = sum(entry["success_rate"] for entry in entries)
    low, high = wilson(success, len(entries))

    def mean(key, of):
        values = [outcome[key] for outcome in of if outcome[key] is not None]
        return sum(values) / len(values) if values else None

    return {
        "levels": len(entries),
        "episodes": len(outcomes),
        "success_rate": success / len(entries),
        "success_low": low,
        "success_high": high,
        "steps": mean("steps", won),
        "frames": mean("frames", won),
        "efficiency": mean("efficiency", won),
        "death_rate": deaths.total() / len(outcomes),
        "timeout_rate": 1 - (len(won) + deaths.total()) / len(outcomes),
        "safety": 1 - deaths.total() / len(outcomes),
        "deaths": dict(sorted(deaths.items())),
        "return": mean("return", outcomes),
    }


def scalars(results: dict, prefix: str) -> dict[str, float]:
    """The figures of `results` as a flat dict for metrics.jsonl: `<prefix>/success_rate`, `<prefix>/<category>` ..."""
    overall = results["overall"]
    keys = ("success_rate", "success_low", "success_high", "steps", "frames", "efficiency", "safety", "return")
    flat = {f"{prefix}/{key}": overall[key] for key in keys if overall[key] is not None}
    return flat | {f"{prefix}/{name}": part["success_rate"] for name, part in results["by_category"].items()}


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


def report(results: dict, title: str, about: dict[str, str]) -> str:
    """Markdown for people: what was evaluated, a table per category, how episodes ended."""
    settings = results["settings"]
    chosen = (
        "greedy" if settings["deterministic"] else f"sampled, {settings['tries']} per level, seed {settings['seed']}"
    )
    lines = [f"# {title}", ""]
    lines += [f"- {name}: {value}" for name, value in {**about, "actions": chosen}.items()]
    lines += [
        "",
        "| category | levels | success | 95% interval | seconds | steps | efficiency | died | ran out of time |",
        "| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, part in [*results["by_category"].items(), ("**overall**", results["overall"])]:
        interval = f"{part['success_low']:.0%} to {part['success_high']:.0%}"
        seconds = "-" if part["frames"] is None else f"{part['frames'] / 60:.1f}"
        steps = "-" if part["steps"] is None else f"{part['steps']:.0f}"
        efficiency = "-" if part["efficiency"] is None else f"{part['efficiency']:.0%}"
        lines.append(
            f"| {name} | {part['levels']} | {part['success_rate']:.1%} | {interval} | {seconds} | {steps} "
            f"| {efficiency} | {part['death_rate']:.1%} | {part['timeout_rate']:.1%} |"
        )
    deaths = results["overall"]["deaths"]
    lines += ["", "Deaths by cause: " + (", ".join(f"{cause} {n}" for cause, n in deaths.items()) or "none") + "."]
    failed = [entry for entry in results["levels"] if entry["success_rate"] == 0]
    if failed:
        shown = ", ".join(f"{entry['id']} ({entry['tries'][0]['cause']})" for entry in failed[:30])
        more = f" and {len(failed) - 30} more" if len(failed) > 30 else ""
        lines += ["", f"Never won ({len(failed)} of {len(results['levels'])}): {shown}{more}."]
    lines += [
        "",
        "Seconds and steps to finish and efficiency (px of the shortest way / px travelled) are means over won "
        "episodes. The interval is Wilson's, with the level as the unit.",
    ]
    return "\n".join(lines) + "\n"


@dataclass
class Args:
    checkpoint: str
    """checkpoint file, such as RUN_DIR/checkpoints/best.pt"""
    test_dataset: str | None = None
    """`builtin` or a folder of levels (default: the run's own suite)"""
    output: str | None = None
    """folder of the results (default: the run directory for the run's own suite, else a folder in it)"""
    categories: tuple[str, ...] = ()
    """evaluate only these categories"""
    sampled: bool = False
    """sample actions from the policy instead of taking the likeliest"""
    tries: int = 1
    """episodes per level with --sampled"""
    seed: int = 0
    """seed of the sampled actions"""
    num_envs: int = 1024
    """how many levels are played at once at most; changes memory, never results"""
    device: Literal["cpu", "cuda"] = "cpu"
    """where the policy runs"""
    capture_video: bool = False
    """write videos of some episodes, won and lost ones of each category, into the results' folder"""


def main(args: Args) -> dict:
    """Evaluate a checkpoint, write the results, return them. Raises CheckpointError, LevelError, OSError."""
    checkpoints.check_args(args)
    if args.tries > 1 and not args.sampled:
        raise checkpoints.ArgumentError(f"--tries {args.tries}: needs --sampled (greedy actions repeat themselves)")
    if args.device == "cuda" and not torch.cuda.is_available():
        raise checkpoints.ArgumentError("--device cuda: no CUDA device is available")
    check_video(args.capture_video)
    device = torch.device(args.device)
    agent, run = checkpoints.load_agent(args.checkpoint, device)
    # As many threads as the run asked for in its own evaluations: a matrix product may round differently with others.
    torch.set_num_threads(run["inference_threads"] or torch.get_num_threads())
    dataset = run["test_dataset"] if args.test_dataset is None else args.test_dataset
    levels = load_suite(dataset, run["train_dataset"], run["holdout_fraction"])
    present = {level.category for level in levels}
    for name in args.categories:
        if name not in present:
            raise checkpoints.ArgumentError(f"--categories {name}: {dataset} has only {', '.join(sorted(present))}")
    if args.categories:
        levels = [level for level in levels if level.category in args.categories]
    run_dir = Path(args.checkpoint).resolve().parent.parent
    own_suite = not (args.sampled or args.categories) and _same_dataset(dataset, run["test_dataset"])
    if not args.output and not (run_dir / "config.json").is_file():
        raise checkpoints.ArgumentError(f"--checkpoint {args.checkpoint}: in no run directory, so --output is needed")
    folder = Path(args.output or (run_dir if own_suite else run_dir / f"eval_{Path(dataset).name}"))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):  # refused before the games are played, not after
        pass
    results = evaluate(
        agent_policy(agent, device),
        levels,
        observations=agent.observations,
        frame_skip=run["frame_skip"],
        gamma=run["gamma"],
        frame_stack=run.get("frame_stack", 1),
        deterministic=not args.sampled,
        seed=args.seed,
        tries=args.tries,
        num_envs=args.num_envs,
    )
    filmed = levels if args.capture_video else ()
    write_results(results, folder, f"{run['exp_name']} on {dataset}", {"checkpoint": str(args.checkpoint)}, filmed)
    print(report(results, f"{run['exp_name']} on {dataset}", {"checkpoint": str(args.checkpoint)}))
    print(f"written to {folder}")
    return results


if __name__ == "__main__":
    checkpoints.command(main, Args)
