"""Pictures of an agent's games on a level: many tries over each other, and moments of one game side by side."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from npp_rl.agents import load_agents
from npp_rl.commands import ArgumentError
from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import CAUSES, inputs_of
from npp_rl.files import read_json
from npp_rl.levels.datasets import load_levels
from npp_rl.simulator import DEAD, WON, new_state, play, reset_game, simulate
from npp_rl.viewing.render import Scene, outcome_text, save_level, save_picture, text_font

MOMENTS, COLUMNS, WINDOW = 6, 3, (420, 300)  # of a strip: pictures, in a row, and px of the level around the ninja


def draw_tries(
    checkpoint: Path, level_id: str, out: Path, count: int = 24, seed: int = 0, named: tuple[str, ...] = ()
) -> None:
    """Write a PNG of a built-in test level with `count` tries of the agent over it, deaths marked by cause.

    named: see `agents.load_agents`. Actions are sampled. Raises ArgumentError where there is no such level,
    CheckpointError.
    """
    levels = [level for level in load_levels("builtin", "test") if level.id == level_id]
    if not levels:
        raise ArgumentError(f"--level {level_id}: not a built-in test level (expected CATEGORY/test_0000 or so)")
    ((_, agent, args),) = load_agents([checkpoint], named=named)
    torch.manual_seed(seed)
    rules = {"frame_skip": args["frame_skip"], "gamma": args["gamma"], "frame_stack": args.get("frame_stack", 1)}
    envs = NppVectorEnv(count, levels, agent.observations, **rules, copy=False)
    obs, _ = envs.reset(seed=seed)
    taken, running, causes = [[] for _ in range(count)], np.ones(count, bool), [""] * count
    while running.any():
        with torch.no_grad():
            action = agent.get_action_and_value({k: torch.from_numpy(v) for k, v in obs.items()})[0].numpy()
        for i in np.flatnonzero(running):
            taken[i].append(action[i])
        obs, _, terminated, truncated, infos = envs.step(action)
        for i in np.flatnonzero(running & (terminated | truncated)):
            causes[i] = CAUSES[infos["outcome"]["cause"][i]]
        running &= ~(terminated | truncated)
    trajectories = []
    for actions, cause in zip(taken, causes, strict=True):
        path, states = simulate(levels[0].map_data, inputs_of(np.array(actions), args["frame_skip"]))
        outcome = {DEAD: "died", WON: "won"}.get(int(states[-1]), "unfinished")
        trajectories.append((path[:, :2], outcome, cause))
    save_level(out, levels[0], 1, trajectories=trajectories)


def draw_strip(run: Path, level_id: str, dataset: str, out: Path) -> None:
    """Write a PNG with MOMENTS of the first recorded game on a level, evenly spaced, the last one its end.

    Raises ArgumentError where the run's eval_results.json has no actions of such a game or the data set no such level.
    """
    results = read_json(run / "eval_results.json")
    try:
        entry = next(entry for entry in results["levels"] if entry["id"] == level_id)
        game, digest = entry["tries"][0], entry["digest"]
        inputs = inputs_of(game["actions"], results["settings"]["frame_skip"], game["frames"])
        inputs = np.frombuffer(inputs, np.uint8)
    except (StopIteration, KeyError, IndexError, TypeError, ValueError):
        place = run / "eval_results.json"
        raise ArgumentError(f"--level {level_id}: {place} has no actions of a game on it") from None
    levels = load_levels(dataset, "test" if dataset == "builtin" else "all")
    level = next((level for level in levels if level.digest == digest), None)
    if level is None:
        raise ArgumentError(f"--dataset {dataset}: has not the level {level_id} that was played")
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
