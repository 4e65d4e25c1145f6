"""Play levels, watch replays and agents, in a window. Needs pygame (extra `play`).

    python -m npp_rl.play                                     browse the built-in levels and play them
    python -m npp_rl.play --dataset DIR --record DIR          other levels; finished runs are written as replays
    python -m npp_rl.play --replay FILE                       watch a replay
    python -m npp_rl.play --checkpoint RUN_DIR/checkpoints/best.pt [--sampled]    watch an agent

Browser: arrows and Enter, type to filter, Esc leaves. Game: arrows or A and D, jump with Z, space, up or W; R starts
again, N and P go to the next and the previous level, Esc back. Replays and agents: space pauses, up and down change the
speed; a replay also goes a frame on (right) or back (left) and rewinds (backspace).

A picture is one frame of 1/60 s; the keys are read once a frame.
"""

import argparse
import functools
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from npp_rl.commands import LevelError
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.maps import Level
from npp_rl.levels.replays import Replay, ReplayError, read_replays, write_replay
from npp_rl.simulator import DEAD, WON, new_state, play, reset_game
from npp_rl.simulator.layout import GOLD
from npp_rl.viewing.render import Scene, outcome_text, text_font, thumbnail
from npp_rl.viewing.shapes import DEADLY, GOLD_SHINE, HEIGHT, INK, OUTCOMES, PAPER, TILE, WIDTH

try:
    import pygame

    from npp_rl.viewing.window import Closed, Window
except ImportError:
    if __name__ != "__main__":
        raise
    print('error: playing needs pygame: pip install "npp-rl[play]"', file=sys.stderr)
    sys.exit(2)

PANEL = 72  # px below the field
LEFT = {pygame.K_LEFT, pygame.K_a}
RIGHT = {pygame.K_RIGHT, pygame.K_d}
JUMP = {pygame.K_z, pygame.K_SPACE, pygame.K_UP, pygame.K_w}
SPEEDS = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
SNAPSHOT_EVERY = 60  # frames
REWIND = 4  # frames a picture
STATES = ("standing", "running", "sliding", "jumping", "falling", "wall sliding", "dead", "dying", "won")
DIM, FAINT = (160, 166, 184), (70, 74, 92)


class Game:
    """A running level: simulator, what draws it, the inputs so far, and snapshots to go back to."""

    def __init__(self, level: Level, scale: int):
        self.level = level
        self.scene = Scene(level.map_data, scale)
        self.rows, self.state = new_state(self.scene.bank, 1)
        self.all_gold = sum(thing.kind == GOLD for thing, _, _ in self.scene.still)
        self.restart()

    def restart(self) -> None:
        reset_game(self.scene.bank, self.state, 0, 0)
        self.inputs = bytearray()
        self.snapshots = [self.rows.copy()]

    def advance(self, key: int) -> None:
        """One frame with an input byte (PHYSICS.md 7)."""
        play(self.scene.bank, self.state, 0, np.frombuffer(bytes([key]), np.uint8), np.zeros((1, 4)), np.zeros(1, "u1"))
        self.inputs.append(key)
        if len(self.inputs) == SNAPSHOT_EVERY * len(self.snapshots):
            self.snapshots.append(self.rows.copy())

    def go_back(self, frame: int) -> None:
        """To an earlier frame: from the snapshot before it, with the same inputs."""
        frame = max(frame, 0)
        keys = self.inputs[frame - frame % SNAPSHOT_EVERY : frame]
        del self.snapshots[frame // SNAPSHOT_EVERY + 1 :]
        del self.inputs[frame - frame % SNAPSHOT_EVERY :]
        self.rows[:] = self.snapshots[-1]
        for key in keys:
            self.advance(key)

    @property
    def ninja(self):
        return self.state.ninja[0]

    @property
    def over(self) -> bool:
        return int(self.ninja["state"]) in (DEAD, WON)

    def picture(self) -> np.ndarray:
        return self.scene.picture(self.state, 0)


def with_panel(game: Game, outcome: str, middle: str, right: str, keys: str, choice=None) -> np.ndarray:
    """The game and the panel below it: uint8 [672 * scale, 1056 * scale, 3].

    outcome is shown large, middle (or the agent's choice) in the second line, keys in the third. choice: names and
    probabilities of the actions, index of the one taken, value.
    """
    scale = game.scene.scale
    image = Image.new("RGB", (WIDTH * scale, PANEL * scale), INK)
    draw = ImageDraw.Draw(image)
    text = functools.partial(_write, draw, scale)

    title = game.level.title if game.level.title != game.level.id else ""
    text(12, 14, f"{game.level.id}   {title}".rstrip()[:70])
    color = OUTCOMES["won"] if outcome == "won" else DEADLY
    if outcome:
        words = outcome.upper() if outcome == "won" else outcome
        width = draw.textlength(words, text_font(16 * scale)) / scale
        box = (WIDTH / 2 - width / 2 - 10, 3, WIDTH / 2 + width / 2 + 10, 25)
        draw.rounded_rectangle([v * scale for v in box], 5 * scale, color)
        text(WIDTH / 2, 14, words, 16, PAPER, "mm")
    minutes, frames = divmod(len(game.inputs), 3600)
    text(WIDTH - 12, 14, f"{minutes}:{frames / 60:06.3f}", 18, GOLD_SHINE, "rm")
    text(WIDTH - 12, 38, right, 13, DIM, "rm")
    text(12, 61, keys, 12, DIM)
    text(WIDTH - 12, 61, f"gold {int(game.ninja['gold'])} of {game.all_gold}", 13, GOLD_SHINE, "rm")
    if choice is None:
        text(12, 38, middle, 13, DIM)
    else:
        names, probabilities, taken, value = choice
        for k, (name, probability) in enumerate(zip(names, probabilities, strict=True)):
            x, color = 12 + 128 * k, PAPER if k == taken else DIM
            text(x, 35, name, 12, color)
            text(x + 114, 35, f"{100 * probability:.0f}%", 12, color, "rm")
            bar = [(x, 43), (x + 114, 50)]
            draw.rectangle([(a * scale, b * scale) for a, b in bar], FAINT)
            full = [(x, 43), (x + 114 * probability, 50)]
            draw.rectangle([(a * scale, b * scale) for a, b in full], GOLD_SHINE if k == taken else TILE)
        text(12 + 128 * len(names), 38, f"value {value:+.2f}", 14, PAPER)
    return np.concatenate([game.picture(), np.asarray(image)])


def _write(draw, scale, x, y, words, size=14, color=PAPER, anchor="lm"):
    draw.text((x * scale, y * scale), words, color, text_font(size * scale), anchor=anchor)


CELL_WIDTH, CELL_HEIGHT, COLUMNS, ROWS = 212, 142, 4, 4  # px, of the browser's grid
THUMBNAIL = 200


def browse(window: Window, levels: Sequence[Level], scale: int, at: int = 0) -> int | None:
    """Let the user choose a level -> its index, None where the user leaves. Raises Closed."""
    counts = Counter(level.category for level in levels)
    categories = ["all levels", *counts]
    counts["all levels"] = len(levels)
    names = [f"{level.id} {level.title} {level.category}".lower() for level in levels]
    query, category, in_categories = "", 0, False
    found, place = list(range(len(levels))), at
    thumbnails, board = {}, None
    while True:
        first = max(0, min(place // COLUMNS - 1, -(-len(found) // COLUMNS) - ROWS)) * COLUMNS
        page = found[first : first + COLUMNS * ROWS]
        missing = [k for k in page if k not in thumbnails]
        if missing:  # one a picture, so that the keys are never waited for
            thumbnails[missing[0]] = thumbnail(levels[missing[0]], THUMBNAIL * scale)
        if missing or board is None:
            listed = [(name, counts[name]) for name in categories]
            cells = [(levels[k].id, thumbnails.get(k), first + j == place) for j, k in enumerate(page)]
            board = _draw_browser(scale, listed, category, in_categories, cells, query, len(found))
        window.show(board)
        for event in window.events:
            if event.type != pygame.KEYDOWN:
                continue
            board, key, before = None, event.key, (query, category)
            step = {pygame.K_LEFT: -1, pygame.K_RIGHT: 1, pygame.K_UP: -COLUMNS, pygame.K_DOWN: COLUMNS}
            step |= {pygame.K_PAGEUP: -COLUMNS * ROWS, pygame.K_PAGEDOWN: COLUMNS * ROWS}
            if key == pygame.K_ESCAPE:
                if not query:
                    return None
                query = ""
            elif key in (pygame.K_RETURN, pygame.K_KP_ENTER):
                if found and not in_categories:
                    return found[place]
                in_categories = False
            elif key == pygame.K_TAB:
                in_categories = not in_categories
            elif in_categories and key in (pygame.K_UP, pygame.K_DOWN):
                category = (category + (1 if key == pygame.K_DOWN else -1)) % len(categories)
            elif in_categories and key == pygame.K_RIGHT:
                in_categories = False
            elif key == pygame.K_LEFT and place % COLUMNS == 0:
                in_categories = True
            elif key in step and not in_categories:
                if 0 <= place + step[key] < len(found):
                    place += step[key]
                elif abs(step[key]) > 1 and found:
                    place = 0 if step[key] < 0 else len(found) - 1
            elif key == pygame.K_BACKSPACE:
                query = query[:-1]
            elif getattr(event, "unicode", "").isprintable():
                query += getattr(event, "unicode", "").lower()
            if (query, category) != before:
                chosen = categories[category] if category else None
                words = query.split()
                found = [
                    k
                    for k, level in enumerate(levels)
                    if chosen in (None, level.category) and all(word in names[k] for word in words)
                ]
                place = 0


def _draw_browser(scale, listed, category, in_categories, cells, query, count) -> np.ndarray:
    """The browser's screen; cells: (name, thumbnail or None, whether chosen) of the levels in view."""
    image = Image.new("RGB", (WIDTH * scale, (HEIGHT + PANEL) * scale), INK)
    draw = ImageDraw.Draw(image)
    text = functools.partial(_write, draw, scale)

    def box(x0, y0, x1, y1, fill):
        draw.rounded_rectangle([v * scale for v in (x0, y0, x1, y1)], 4 * scale, fill)

    text(16, 28, "NPP-RL", 22, GOLD_SHINE)
    for k, (name, number) in enumerate(listed):
        y = 74 + 26 * k
        if k == category:
            box(8, y - 12, 188, y + 12, TILE if in_categories else FAINT)
        text(16, y, name.replace("_", " "), 13, PAPER if k == category else DIM)
        text(180, y, str(number), 12, DIM, "rm")
    filtered = f"filter: {query}_" if query else "type to filter"
    text(208, 28, filtered, 16, PAPER if query else DIM)
    text(WIDTH - 12, 28, f"{count} level{'' if count == 1 else 's'}", 14, DIM, "rm")
    for k, (name, picture, chosen) in enumerate(cells):
        x, y = 204 + CELL_WIDTH * (k % COLUMNS), 56 + CELL_HEIGHT * (k // COLUMNS)
        if chosen:
            box(x, y, x + THUMBNAIL + 8, y + CELL_HEIGHT - 3, TILE if in_categories else GOLD_SHINE)
        height = round(THUMBNAIL * HEIGHT / WIDTH)
        if picture is None:
            box(x + 4, y + 4, x + 4 + THUMBNAIL, y + 4 + height, FAINT)
        else:
            image.paste(Image.fromarray(picture), ((x + 4) * scale, (y + 4) * scale))
        color = INK if chosen and not in_categories else PAPER if chosen else DIM
        text(x + 6, y + height + 14, name[-30:], 12, color)
    if not cells:
        text(220, 80, "no level fits the filter", 14, DIM)
    keys = "arrows: move   Enter: choose   left edge or Tab: categories   Page up, Page down   Esc: clear filter, leave"
    text(16, HEIGHT + PANEL - 22, keys, 12, DIM)
    return np.asarray(image)


def pressed(window: Window) -> list[int]:
    """Keys pressed with the last picture, in their order."""
    return [event.key for event in window.events if event.type == pygame.KEYDOWN]


def input_byte(held: frozenset[int]) -> int:
    """The input byte (PHYSICS.md 7) of held keys; left beats right."""
    key = 1 if held & JUMP else 0
    return key | (4 if held & LEFT else 2 if held & RIGHT else 0)


def play_levels(
    window: Window, levels: Sequence[Level], index: int, scale: int, record: Path | None, won_only: bool
) -> int:
    """Keyboard play from level `index` on -> index of the last level when the user goes back. Raises Closed."""
    keys = "arrows or A D: run   Z, space, up or W: jump   R: again   N, P: next, previous level   Esc: back"
    game, note = Game(levels[index], scale), ""
    while True:
        ninja = game.ninja
        speed = float(np.hypot(ninja["u"], ninja["v"]))
        middle = f"{STATES[ninja['state']]}   {speed:.1f} px/frame"
        window.show(with_panel(game, outcome_text(ninja), middle, note, keys))
        for key in pressed(window):
            if key == pygame.K_ESCAPE:
                return index
            if key == pygame.K_r or (game.over and key == pygame.K_RETURN):
                game.restart()
                note = ""
            elif key in (pygame.K_n, pygame.K_p):
                index = (index + (1 if key == pygame.K_n else -1)) % len(levels)
                game, note = Game(levels[index], scale), ""
        if not game.over:
            game.advance(input_byte(window.held))
            if game.over and record is not None:
                note = record_game(game, record, won_only)


def record_game(game: Game, folder: Path, won_only: bool) -> str:
    """Write a finished game as a replay, if it is wanted -> what to tell the player."""
    won = int(game.ninja["state"]) == WON
    if won_only and not won:
        return ""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", game.level.id)
    stem = f"{name}__{'won' if won else 'died'}_{len(game.inputs)}"
    path, number = folder / f"{stem}.replay", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}_{number}.replay"
    try:
        write_replay(path, game.level.map_data, bytes(game.inputs), won)
    except OSError as error:
        return f"not recorded: {error.strerror}"
    return f"recorded as {path.name}"


def changed_speed(speed: int, keys: list[int]) -> int:
    """Index into SPEEDS after the keys up and down."""
    change = keys.count(pygame.K_UP) - keys.count(pygame.K_DOWN)
    return min(max(speed + change, 0), len(SPEEDS) - 1)


def watch_replays(window: Window, replays: Sequence[Replay], scale: int) -> None:
    """Show the runs of a replay file until the user goes back. Raises Closed."""
    help_keys = "space: pause   right, left: one frame   backspace: rewind   up, down: speed   R: again   Esc: end"
    if len(replays) > 1:
        help_keys += "   N, P: run"
    index, game = 0, None
    while True:
        if game is None:
            replay = replays[index]
            name = replay.path.name + (f" [{replay.part}]" if replay.part else "")
            game = Game(Level(replay.map_data, name, "", replay.title), scale)
            paused, speed, credit = False, SPEEDS.index(1), 0.0
        at = len(game.inputs)
        ended = not game.over and at == len(replay.inputs)
        outcome = outcome_text(game.ninja) or ("inputs used up" if ended else "")
        middle = f"frame {at} of {len(replay.inputs)}   {STATES[game.ninja['state']]}   {key_names(replay.inputs, at)}"
        right = f"{'paused   ' if paused else ''}speed {SPEEDS[speed]:g}"
        window.show(with_panel(game, outcome, middle, right, help_keys))
        keys = pressed(window)
        speed = changed_speed(speed, keys)
        step = 0
        for key in keys:
            if key == pygame.K_ESCAPE:
                return
            if key == pygame.K_SPACE:
                paused = not paused
            elif key == pygame.K_r:
                game.restart()
            elif key in (pygame.K_RIGHT, pygame.K_LEFT):
                paused = True
                step += 1 if key == pygame.K_RIGHT else -1
            elif key in (pygame.K_n, pygame.K_p) and len(replays) > 1:
                index, game = (index + (1 if key == pygame.K_n else -1)) % len(replays), None
        if game is None:
            continue
        if pygame.K_BACKSPACE in window.held:
            step, credit = -REWIND, 0.0
        elif not paused:
            credit += SPEEDS[speed]
            step, credit = int(credit), credit - int(credit)
        if step < 0:
            game.go_back(len(game.inputs) + step)
        for _ in range(step):
            if not game.over and len(game.inputs) < len(replay.inputs):
                game.advance(replay.inputs[len(game.inputs)])


def key_names(inputs: bytes, at: int) -> str:
    """Names of the keys held in the frame that has been played last."""
    byte = inputs[at - 1] if at else 0
    return " + ".join(name for bit, name in ((4, "left"), (2, "right"), (1, "jump")) if byte & bit)


def watch_agent(
    window: Window, levels: Sequence[Level], index: int, scale: int, agent, run: dict, sampled: bool, seed: int
) -> int:
    """Show an agent's games from level `index` on -> index of the last level when the user goes back. Raises Closed.

    agent, run: from `checkpoints.load_agent`. Greedy actions unless sampled.
    """
    import torch

    from npp_rl.environment.env import NppVectorEnv
    from npp_rl.environment.games import ACTION_BYTES, ACTIONS

    keys = "space: pause   up, down: speed   R: again   N, P: next, previous level   Esc: back"
    random = np.random.default_rng(seed)
    speed, paused = SPEEDS.index(1), False
    game = None
    while True:
        if game is None:
            game = Game(levels[index], scale)
            rules = {"frame_skip": run["frame_skip"], "gamma": run["gamma"], "frame_stack": run.get("frame_stack", 1)}
            envs = NppVectorEnv(1, [levels[index]], agent.observations, **rules, copy=False, autoreset=False)
            obs, _ = envs.reset()
            choice, left, out_of_time, credit = None, 0, False, 0.0
        right = f"{'paused   ' if paused else ''}speed {SPEEDS[speed]:g}   {'sampled' if sampled else 'greedy'}"
        outcome = outcome_text(game.ninja) or ("out of time" if out_of_time else "")
        window.show(with_panel(game, outcome, "", right, keys, choice))
        speed = changed_speed(speed, pressed(window))
        for key in pressed(window):
            if key == pygame.K_ESCAPE:
                return index
            if key == pygame.K_SPACE:
                paused = not paused
            elif key in (pygame.K_r, pygame.K_n, pygame.K_p):
                step = {pygame.K_r: 0, pygame.K_n: 1, pygame.K_p: -1}[key]
                index, game = (index + step) % len(levels), None
                break
        if game is None or paused:
            continue
        credit += SPEEDS[speed]
        while credit >= 1 and not (game.over or out_of_time):
            # The environment is up to a step ahead; the game shows its frames one by one.
            if not left:
                with torch.no_grad():
                    x = {name: torch.from_numpy(array) for name, array in obs.items()}
                    p = torch.softmax(agent.get_logits(x)[0].double(), 0).numpy()
                    value = float(agent.get_value(x)[0])
                action = int(random.choice(len(p), p=p / p.sum()) if sampled else p.argmax())
                choice, left = (ACTIONS, p.tolist(), action, value), run["frame_skip"]
                obs, _, _, truncated, _ = envs.step(np.array([action]))
            game.advance(int(ACTION_BYTES[action]))
            credit, left = credit - 1, left - 1
            out_of_time = not left and bool(truncated[0])


def playable(path: Path) -> list[Replay]:
    """The runs of a replay file that can be played, repaired where possible. Raises ReplayError if there are none."""
    replays = read_replays(path)
    good = []
    for replay in replays:
        while replay.problem and replay.repaired:
            replay = replay.repaired
        if not replay.problem:
            good.append(replay)
    if not good:
        raise ReplayError(f"{path}: {replays[0].problem}")
    return good


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when the window was closed, 2 after one line on stderr."""

    def fail(message: str):
        print(f"error: {message}", file=sys.stderr)
        raise SystemExit(2)

    def whole(text: str) -> int:
        number = int(text)
        if number < 1:
            raise ValueError
        return number

    parser = argparse.ArgumentParser(prog="python -m npp_rl.play", description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="builtin", metavar="builtin|DIR", help="levels to play or watch")
    parser.add_argument("--level", metavar="ID", help="start with this level, not in the browser")
    parser.add_argument("--record", type=Path, metavar="DIR", help="write every finished game as a replay")
    parser.add_argument("--record-won-only", action="store_true", help="with --record: only games that were won")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="watch a replay")
    parser.add_argument("--checkpoint", metavar="FILE", help="watch the agent of a checkpoint")
    parser.add_argument("--sampled", action="store_true", help="with --checkpoint: sample actions")
    parser.add_argument("--seed", type=int, default=0, help="of the sampled actions")
    parser.add_argument("--scale", type=whole, default=1, metavar="N", help="pixels of the screen to one of the level")
    parser.add_argument("--frames", type=whole, metavar="N", help="end after this many pictures")
    parser.add_argument("--screenshot", type=Path, metavar="FILE", help="end after --frames (60) and write the last")
    parser.error = fail
    options = parser.parse_args(arguments)
    frames = options.frames or (60 if options.screenshot else None)
    scale = options.scale
    window = None
    try:
        agent = run = None
        levels, index, at = [], None, 0
        if options.replay:
            for name in ("checkpoint", "level", "record"):
                if getattr(options, name) is not None:
                    fail(f"--{name}: not together with --replay")
            replays = playable(options.replay)
        else:
            levels = load_levels(options.dataset)
        if options.level is not None:
            ids = [level.id for level in levels]
            if options.level not in ids:
                fail(f"--level {options.level}: not in {options.dataset}, expected an id such as {ids[0]}")
            index = ids.index(options.level)
        if options.checkpoint:
            from npp_rl.agents import load_agent
            from npp_rl.commands import CheckpointError

            try:
                agent, run = load_agent(options.checkpoint)
            except CheckpointError as error:
                fail(str(error))
            print("waiting for the simulator (the first start compiles it, up to a minute)", flush=True)
        if options.record:
            options.record.mkdir(parents=True, exist_ok=True)
        window = Window(WIDTH * scale, (HEIGHT + PANEL) * scale, "NPP-RL", frames, options.screenshot)
        if options.replay:
            watch_replays(window, replays, scale)
            return 0
        while True:
            if index is None:
                index = browse(window, levels, scale, at)
                if index is None:
                    return 0
            if agent is None:
                at = play_levels(window, levels, index, scale, options.record, options.record_won_only)
            else:
                at = watch_agent(window, levels, index, scale, agent, run, options.sampled, options.seed)
            index = None
    except Closed:
        return 0
    except (LevelError, ReplayError) as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except pygame.error as error:
        fail(f"no window can be opened ({error})")
    finally:
        if window is not None:
            window.close()


if __name__ == "__main__":
    sys.exit(main())
