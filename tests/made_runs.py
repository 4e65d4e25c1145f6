"""Makes the folders of an experiment whose truth is known: skills of architectures, luck of seeds, hard levels."""

import json
import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from npp_rl import ARCHITECTURES
from npp_rl.environment.games import inputs_of
from npp_rl.evaluation.summary import summarise
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.generator import generate
from npp_rl.levels.maps import Level
from npp_rl.simulator import DEAD, WON, simulate

SKILL = dict(zip(ARCHITECTURES, (1.6, 1.5, 1.2, 0.8, 1.4, 0.9, 0.4, 1.1), strict=True))
SIZE = dict(zip(ARCHITECTURES, (412_000, 148_000, 365_000, 301_000, 92_000, 388_000, 240_000, 150_535), strict=True))
SPEED = dict(zip(ARCHITECTURES, (610, 1900, 830, 1300, 2400, 700, 2900, 52_000), strict=True))


def make(
    folder: Path,
    architectures=ARCHITECTURES,
    seeds=(1, 2, 3),
    conditions=("no_pretrain", "with_pretrain"),
    levels=10,
    luck=0.15,
    shift=0.0,
    full=True,
    pictures=False,
    rng=7,
) -> Path:
    """Run directories `<arch>/<condition>/seed_<k>`; full: with what the extended evaluation adds; luck: of seeds."""
    rng = np.random.default_rng(rng)
    hard = np.repeat(np.linspace(-3.2, 0.6, len(CATEGORIES)), levels) + rng.normal(0, 0.9, len(CATEGORIES) * levels)
    for architecture in architectures:
        for condition in conditions:
            for seed in seeds:
                skill = SKILL[architecture] + shift + 0.4 * (condition == "with_pretrain") + luck * rng.normal()
                run = folder / architecture / condition / f"seed_{seed}"
                write_run(run, architecture, seed, skill, hard, levels, full, pictures, rng)
    (folder / "config.json").write_text(json.dumps({"experiment_name": folder.name, "args": {}}))
    return folder


def write_run(run, architecture, seed, skill, hard, levels, full, pictures, rng):
    run.mkdir(parents=True)
    config = {
        "architecture": architecture,
        "args": {"exp_name": f"ppo_{architecture}", "seed": seed, "max_minutes": 10.0, "total_timesteps": 10**9,
                 "train_dataset": "builtin", "test_dataset": "builtin", "frame_skip": 4, "num_envs": 256,
                 "size": "small"},
        "parameters": SIZE[architecture],
        "versions": {"python": "3.11.7", "torch": "2.13.0+cpu"},
        "git_revision": "167dd26aa00000000000000000000000000000000",
        "git_changed": False,
        "machine": "x86_64",
        "cpus": 2,
        "device": "cpu",
    }  # fmt: skip
    (run / "config.json").write_text(json.dumps(config))
    rows, total = [], SPEED[architecture] * 600
    for k in range(1, 41):
        reached = 1 / (1 + math.exp(-(skill + 1.3 - 4.5 * math.exp(-k / 9) + rng.normal(0, 0.08))))
        row = {"global_step": int(total * k / 40), "minutes": k / 4 + 0.02}
        train = {
            "charts/SPS": SPEED[architecture] * rng.uniform(0.97, 1.03),
            "charts/success_rate": min(1, reached + 0.03),
        }
        rows.append({"kind": "train", **row, **train})
        if k % 2 == 0:
            rows.append({"kind": "eval", **row, "eval/success_rate": reached})
    chance = 1 / (1 + np.exp(-(skill - hard)))
    won = rng.random(len(hard)) < chance
    entries = []
    for k, success in enumerate(won):
        category = CATEGORIES[k // levels]
        cause = "none" if success or rng.random() < 0.3 else ("mine" if rng.random() < 0.7 else "floor_impact")
        outcome = {"success": bool(success), "cause": cause, "steps": int(rng.integers(40, 300)), "frames": 500}
        outcome["return"] = float(rng.normal(6, 2))
        outcome["efficiency"] = float(rng.uniform(0.6, 0.95)) if success else None
        if full and not success:
            died = f"died_{cause}" if cause != "none" else ("stuck" if rng.random() < 0.5 else "timed_out_near_goal")
            outcome["failure"] = died
        level = {"id": f"{category}/test_{k % levels:04d}", "category": category, "digest": f"{k:064x}", "par": None}
        entries.append({**level, "success_rate": float(success), "tries": [outcome]})
    results = {
        "overall": summarise(entries),
        "by_category": {name: summarise([e for e in entries if e["category"] == name]) for name in CATEGORIES},
        "levels": entries,
        "settings": {"deterministic": True, "seed": 0, "tries": 1, "frame_skip": 4, "gamma": 0.99},
    }
    if full:
        extend(results, architecture, entries, rng)
    if pictures:
        results["pictures"] = {}
        for entry in [e for e in entries if not e["success_rate"]][:2]:
            file = f"failures/{entry['id'].replace('/', '_')}.png"
            (run / "failures").mkdir(exist_ok=True)
            image = Image.new("RGB", (528, 300), (205, 210, 215))
            pen = ImageDraw.Draw(image)
            for x, y in rng.integers(0, 24, (60, 2)).tolist():
                pen.rectangle([x * 22, y * 12, x * 22 + 21, y * 12 + 11], fill=(90, 96, 104))
            pen.line([tuple(p) for p in (rng.random((9, 2)) * (500, 290)).tolist()], fill=(200, 60, 40), width=4)
            image.save(run / file)
            results["pictures"][entry["id"]] = file
    (run / "eval_results.json").write_text(json.dumps(results))
    rows.append(
        {"kind": "test", "global_step": total, "minutes": 10.1, "test/success_rate": results["overall"]["success_rate"]}
    )
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def extend(results, architecture, entries, rng):
    third = len(CATEGORIES) // 3
    tiers = {"easy": CATEGORIES[:third], "middle": CATEGORIES[third : 2 * third], "hard": CATEGORIES[2 * third :]}
    results["by_tier"] = {
        tier: summarise([e for e in entries if e["category"] in names]) for tier, names in tiers.items()
    }
    modes = [t["failure"] for e in entries for t in e["tries"] if "failure" in t]
    overall = results["overall"]
    overall |= {
        "failures": {mode: modes.count(mode) for mode in sorted(set(modes))},
        "near_misses": float(rng.uniform(0, 2)),
    }
    overall["par_efficiency"] = float(rng.uniform(0.5, 0.8))
    gap = float(rng.normal(0.05, 0.02))
    results["generalisation"] = {"train": {"success_rate": overall["success_rate"] + gap}, "gap": gap}
    slow = 60 / math.sqrt(SPEED[architecture])
    latency = {"1": {"p50": slow, "p99": slow * 1.6}, "256": {"p50": slow * 20, "p99": slow * 25}}
    size = SIZE[architecture]
    results["cost"] = {
        "parameters": size,
        "flops": size * 2.2,
        "latency_ms": latency,
        "peak_memory_mb": 300 + size / 5000,
    }


def played(
    folder: Path, architectures=("gat", "mlp_cnn"), seeds=(1, 2), names=("simplest", "simpler", "medium")
) -> Path:
    """An experiment on real levels, two of each category in `names`, with the actions of every episode."""
    suite = folder.parent / f"{folder.name}_levels"
    levels = []
    for name in names:
        (suite / name).mkdir(parents=True)
        for k in range(2):
            level = generate(name, k)
            (suite / name / f"{k}").write_bytes(level.map_data)
            levels.append(Level(level.map_data, f"{name}/{k}", name))
    make(folder, architectures, seeds, ["no_pretrain"])
    for n, place in enumerate(sorted(folder.rglob("eval_results.json"))):
        rng = np.random.default_rng(n)
        results = json.loads(place.read_text())
        config = json.loads(place.with_name("config.json").read_text())
        config["args"] |= {"test_dataset": str(suite), "train_dataset": "builtin", "holdout_fraction": 0.2}
        place.with_name("config.json").write_text(json.dumps(config))
        results["levels"] = [entry_of(level, rng) for level in levels]
        results["overall"] |= summarise(results["levels"])
        results["by_category"] = {
            name: summarise([e for e in results["levels"] if e["category"] == name]) for name in names
        }
        place.write_text(json.dumps(results))
    return folder


def entry_of(level, rng) -> dict:
    """The entry of a level in eval_results.json, after an episode with random actions of up to 80 steps."""
    actions = np.repeat(rng.integers(0, 6, 10), 8)
    places, states = simulate(level.map_data, inputs_of(actions, 4))
    frames, won, died = len(places), states[-1] == WON, states[-1] == DEAD
    tried = {
        "success": bool(won), "cause": "mine" if died else "none", "steps": -(-frames // 4), "frames": frames,
        "return": 0.0, "efficiency": 0.9 if won else None, "failure": None if won else "died" if died else "stuck",
        "actions": "".join(map(str, actions[: -(-frames // 4)].tolist())), "way_left": 0.0, "closest": 0.0,
        "near_misses": 0,
    }  # fmt: skip
    entry = {"id": level.id, "category": level.category, "digest": level.digest, "par": None}
    return {**entry, "success_rate": float(won), "tries": [tried]}
