"""Keep a finished run's small results, and draw learning curves from them.

python -m benchmark.curves keep RUN_DIR --out benchmark/results/EXPERIMENT/NAME
python -m benchmark.curves plot benchmark/results/EXPERIMENT/* --out curves.png
python -m benchmark.curves tries RUN_DIR/checkpoints/best.pt --level exploration/test_0002 --out tries.png
python -m benchmark.curves strip RUN_DIR --level exploration/test_0002 --out strip.png

`keep` writes config.json, eval_results.json without the actions and metrics.jsonl thinned to 50 training rows, each
without machine paths.
`plot` (needs matplotlib, extra `report`) draws success on training levels over minutes, all categories and the mean of
the categories, one panel a run. `tries` draws tries of an agent, with sampled actions, on a built-in test level.
`strip` draws moments of the game that an evaluation played on a level, from the actions in RUN_DIR/eval_results.json.
"""

import argparse
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from npp_rl.agents import load_agent
from npp_rl.commands import fail
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import ACTION_BYTES, CAUSES
from npp_rl.files import parsed, write_atomically
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.datasets import load_levels
from npp_rl.simulator import DEAD, WON, new_state, play, reset_game, simulate
from npp_rl.viewing.render import Scene, outcome_text, save_level, save_picture, text_font

MOST_ROWS = {"train": 50, "eval": 20}  # that are kept of a run, its last ones among them
SMOOTHING = 0.85  # weight of the past in the drawn curves
MOMENTS, COLUMNS, WINDOW = 6, 3, (420, 300)  # of a strip: pictures, in a row, and px of the level around the ninja


def read_metrics(run: Path) -> list[dict]:
    """Rows of a run's metrics.jsonl; OSError or ValueError (one line) where it is missing or damaged."""
    rows = []
    for number, line in enumerate((run / "metrics.jsonl").read_text(errors="replace").splitlines(), 1):
        row = parsed(line, f"{run / 'metrics.jsonl'}: line {number}")
        if not isinstance(row.get("kind"), str) or not isinstance(row.get("minutes"), (int, float)):
            raise ValueError(f"{run / 'metrics.jsonl'}: line {number} has no kind and minutes")
        rows.append(row)
    if not rows:
        raise ValueError(f"{run / 'metrics.jsonl'}: is empty")
    return rows


def without_folders(value):
    """A JSON value with every absolute path in it brought down to its last part."""
    if isinstance(value, dict):
        return {key: without_folders(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [without_folders(entry) for entry in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value


def keep(run: Path, out: Path) -> None:
    """Copy what reports need of a finished run into `out`."""
    rows = read_metrics(run)
    for kind, most in MOST_ROWS.items():
        of_kind = [row for row in rows if row["kind"] == kind]
        stride = max(-(-len(of_kind) // most), 1)
        kept = {id(row) for row in of_kind[::-1][::stride]}
        rows = [row for row in rows if row["kind"] != kind or id(row) in kept]
    rounded = [{k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    names = ("eval_results.json", "config.json")
    results, config = (parsed((run / name).read_text(errors="replace"), str(run / name)) for name in names)
    for entry in results.get("levels", []):
        for episode in entry["tries"]:
            episode.pop("actions", None)  # most of the file, and what `python -m npp_rl.evaluation` makes again
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "config.json", json.dumps(without_folders(config), indent=1).encode() + b"\n")
    documents = (without_folders(results), *rounded)
    results, *lines = (json.dumps(document, separators=(",", ":")).encode() + b"\n" for document in documents)
    write_atomically(out / "eval_results.json", results)
    write_atomically(out / "metrics.jsonl", b"".join(lines))


def plot(runs: list[Path], out: Path) -> None:
    """Write a PNG with one panel a run."""
    try:
        import matplotlib
    except ImportError:
        raise ValueError('curves need matplotlib: pip install -e ".[report]"') from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(runs), figsize=(5.6 * len(runs), 4), sharey=True, squeeze=False)
    for run, panel in zip(runs, panels[0], strict=True):
        rows = [row for row in read_metrics(run) if row["kind"] == "train"]
        smooth, curves = {}, {name: ([], []) for name in (*CATEGORIES, "mean")}
        for row in rows:
            for name in CATEGORIES:
                if (value := row.get(f"success/{name}")) is not None:
                    smooth[name] = SMOOTHING * smooth[name] + (1 - SMOOTHING) * value if name in smooth else value
            for name, value in {**smooth, "mean": sum(smooth.values()) / max(len(smooth), 1)}.items():
                curves[name][0].append(row["minutes"])
                curves[name][1].append(100 * value)
        for k, (name, (minutes, success)) in enumerate(curves.items()):
            mean = name == "mean"
            color = "black" if mean else pyplot.get_cmap("tab10")(k)
            panel.plot(minutes, success, label=name, color=color, linewidth=2.5 if mean else 1.2)
        panel.set(title=run.name.replace("_", " "), xlabel="minutes, 2 CPU cores", ylim=(0, 101), xlim=(0, None))
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("episodes won, % (training levels, sampled actions)")
    panels[0][-1].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110, format="png")
    write_atomically(out, picture.getvalue())


def tries(checkpoint: Path, level_id: str, out: Path, count: int = 24, seed: int = 0) -> None:
    """Write a PNG of a built-in test level with `count` tries of the agent over it, deaths marked by cause."""
    levels = [level for level in load_levels("builtin", "test") if level.id == level_id]
    if not levels:
        raise ValueError(f"--level {level_id}: not among the built-in test levels, expected CATEGORY/test_0000 or so")
    agent, args = load_agent(checkpoint)
    torch.manual_seed(seed)
    rules = {"frame_skip": args["frame_skip"], "gamma": args["gamma"], "frame_stack": args.get("frame_stack", 1)}
    envs = NppVectorEnv(count, levels, agent.observations, **rules, copy=False)
    obs, _ = envs.reset(seed=seed)
    inputs, running, causes = [[] for _ in range(count)], np.ones(count, bool), [""] * count
    while running.any():
        with torch.no_grad():
            action = agent.get_action_and_value({k: torch.from_numpy(v) for k, v in obs.items()})[0].numpy()
        for i in np.flatnonzero(running):
            inputs[i].append(ACTION_BYTES[action[i]])
        obs, _, terminated, truncated, infos = envs.step(action)
        for i in np.flatnonzero(running & (terminated | truncated)):
            causes[i] = CAUSES[infos["episode"]["cause"][i]]
        running &= ~(terminated | truncated)
    trajectories = []
    for keys, cause in zip(inputs, causes, strict=True):
        path, states = simulate(levels[0].map_data, bytes(np.repeat(np.array(keys, np.uint8), args["frame_skip"])))
        outcome = {DEAD: "died", WON: "won"}.get(int(states[-1]), "unfinished")
        trajectories.append((path[:, :2], outcome, cause))
    save_level(out, levels[0], 1, trajectories=trajectories)


def strip(run: Path, level_id: str, dataset: str, out: Path) -> None:
    """Write a PNG with MOMENTS of the first recorded game on a level, evenly spaced, the last one its end."""
    results = parsed((run / "eval_results.json").read_text(errors="replace"), str(run / "eval_results.json"))
    try:
        entry = next(entry for entry in results["levels"] if entry["id"] == level_id)
        game, digest = entry["tries"][0], entry["digest"]
        keys = ACTION_BYTES[np.array(list(game["actions"]), np.int64)]
        inputs = np.repeat(keys, results["settings"]["frame_skip"])[: game["frames"]]
    except (StopIteration, KeyError, IndexError, TypeError, ValueError):
        raise ValueError(f"--level {level_id}: {run / 'eval_results.json'} has no actions of a game on it") from None
    levels = load_levels(dataset, "test" if dataset == "builtin" else "all")
    level = next((level for level in levels if level.digest == digest), None)
    if level is None:
        raise ValueError(f"--dataset {dataset}: has not the level {level_id} that was played")
    scene = Scene(level.map_data)
    _, state = new_state(scene.bank, 1)
    reset_game(scene.bank, state, 0, 0)
    trajectory, states, ninja = np.zeros((1, 4)), np.zeros(1, np.uint8), state.ninja[0]
    moments = np.linspace(0, len(inputs), MOMENTS).round().astype(int)
    width, height = WINDOW
    sheet = Image.new("RGB", ((width + 4) * COLUMNS - 4, (height + 4) * -(-MOMENTS // COLUMNS) - 4), "white")
    for k, (frame, before) in enumerate(zip(moments, [0, *moments], strict=False)):
        for t in range(before, frame):
            play(scene.bank, state, 0, inputs[t : t + 1], trajectory, states)
        picture = Image.fromarray(scene.picture(state, 0))
        left = int(np.clip(ninja["x"] - width / 2, 0, picture.width - width))
        top = int(np.clip(ninja["y"] - height / 2, 0, picture.height - height))
        picture = picture.crop((left, top, left + width, top + height))
        text = f"{frame / 60:.1f} s  {outcome_text(ninja) or ('time is over' if frame == moments[-1] else '')}"
        place = ImageDraw.Draw(picture).textbbox((8, 6), text, text_font(16))
        ImageDraw.Draw(picture).rectangle((0, 0, place[2] + 8, place[3] + 6), "white")
        ImageDraw.Draw(picture).text((8, 6), text, "black", text_font(16))
        sheet.paste(picture, (k % COLUMNS * (width + 4), k // COLUMNS * (height + 4)))
    save_picture(out, np.asarray(sheet))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    keeper = commands.add_parser("keep", help="copy a finished run's small results")
    keeper.add_argument("run", type=Path)
    plotter = commands.add_parser("plot", help="draw learning curves of kept or whole runs")
    plotter.add_argument("runs", type=Path, nargs="+")
    drawer = commands.add_parser("tries", help="draw tries of an agent on a built-in test level")
    drawer.add_argument("checkpoint", type=Path)
    drawer.add_argument("--level", required=True, help="for example exploration/test_0002")
    stripper = commands.add_parser("strip", help="draw moments of an evaluation's game on a level")
    stripper.add_argument("run", type=Path)
    stripper.add_argument("--level", required=True, help="for example exploration/test_0002")
    stripper.add_argument("--dataset", default="builtin", help="the levels that were played")
    for sub in (keeper, plotter, drawer, stripper):
        sub.add_argument("--out", type=Path, required=True)
    for one in (parser, keeper, plotter, drawer, stripper):
        one.error = fail
    args = parser.parse_args()
    try:
        if args.command == "keep":
            keep(args.run, args.out)
        elif args.command == "plot":
            plot(args.runs, args.out)
        elif args.command == "strip":
            strip(args.run, args.level, args.dataset, args.out)
        else:
            tries(args.checkpoint, args.level, args.out)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except ValueError as error:
        fail(str(error))


if __name__ == "__main__":
    main()
