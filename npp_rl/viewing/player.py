"""Levels played by the keyboard, and replays shown, in a window with a panel below the field. Needs pygame.

A picture is one frame of 1/60 s; the keys are read once a frame.
"""

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pygame
from PIL import Image, ImageDraw

from npp_rl.files import plain_name
from npp_rl.levels.maps import Level
from npp_rl.levels.replays import Replay, write_replay
from npp_rl.simulator import DEAD, WON, new_state, play, reset_game
from npp_rl.simulator.layout import GOLD
from npp_rl.viewing.render import Scene, outcome_text, text_font, write_text
from npp_rl.viewing.shapes import DEADLY, GOLD_SHINE, INK, OUTCOMES, PAPER, TILE, WIDTH
from npp_rl.viewing.window import Window

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
    """A running game: the simulator, the scene that draws it, the inputs so far, and snapshots to go back to."""

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
        """Play one frame with an input byte (PHYSICS.md 7)."""
        play(self.scene.bank, self.state, 0, np.frombuffer(bytes([key]), np.uint8), np.zeros((1, 4)), np.zeros(1, "u1"))
        self.inputs.append(key)
        if len(self.inputs) == SNAPSHOT_EVERY * len(self.snapshots):
            self.snapshots.append(self.rows.copy())

    def go_back(self, frame: int) -> None:
        """Go back to an earlier frame: the inputs are played again from the snapshot before it."""
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
    """The game with the panel below it: uint8 [672 * scale, 1056 * scale, 3].

    outcome is large, middle (or the agent's choice) is in the second line, keys is in the third. choice: names and
    probabilities of the actions, index of the action taken, value; of an ensemble also each agent's probabilities: a
    line marks them in an action's bar, and a dot below the bar each agent that holds this action for the likeliest.
    """
    scale = game.scene.scale
    image = Image.new("RGB", (WIDTH * scale, PANEL * scale), INK)
    draw = ImageDraw.Draw(image)
    text = functools.partial(write_text, draw, scale)

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
        names, probabilities, taken, value, *more = choice
        members = more[0] if more else []
        for k, (name, probability) in enumerate(zip(names, probabilities, strict=True)):
            x, color = 12 + 128 * k, PAPER if k == taken else DIM
            text(x, 35, name, 12, color)
            text(x + 114, 35, f"{100 * probability:.0f}%", 12, color, "rm")
            bar = [(x, 43), (x + 114, 50)]
            draw.rectangle([(a * scale, b * scale) for a, b in bar], FAINT)
            full = [(x, 43), (x + 114 * probability, 50)]
            draw.rectangle([(a * scale, b * scale) for a, b in full], GOLD_SHINE if k == taken else TILE)
            for member in members:
                at = (x + 114 * member[k]) * scale
                draw.line((at, 42 * scale, at, 51 * scale), PAPER, scale)
            for vote in range(sum(max(range(len(member)), key=member.__getitem__) == k for member in members)):
                at = x + 3 + 7 * vote
                draw.ellipse([v * scale for v in (at - 2, 52, at + 2, 56)], PAPER)
        text(12 + 128 * len(names), 38, f"value {value:+.2f}", 14, PAPER)
    return np.concatenate([game.picture(), np.asarray(image)])


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
    """Keyboard play from level `index` on, until the user goes back -> index of the last level. Raises Closed."""
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
    """Write a finished game as a replay, if it is wanted -> note for the player."""
    won = int(game.ninja["state"]) == WON
    if won_only and not won:
        return ""
    stem = f"{plain_name(game.level.id)}__{'won' if won else 'died'}_{len(game.inputs)}"
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
    """Index into SPEEDS after the keys up and down were pressed."""
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
    """Names of the keys held in the frame that was played last."""
    byte = inputs[at - 1] if at else 0
    return " + ".join(name for bit, name in ((4, "left"), (2, "right"), (1, "jump")) if byte & bit)
