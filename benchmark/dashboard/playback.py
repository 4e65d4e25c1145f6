"""Levels and games for the page, by the simulator: geometry, every frame of a game, ghosts, pictures and films.

These are tasks of worker.py; they run in a process beside the server. A map comes as base64 of its bytes.
"""

import base64
import functools
import hashlib
import io
import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.dashboard import drawing
from benchmark.dashboard.drawing import Symbols, still_picture
from benchmark.reporting.level_views import SvgPen
from npp_rl.environment.games import inputs_of
from npp_rl.levels import builtin
from npp_rl.levels.categories import TIERS
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.generator import generate
from npp_rl.levels.maps import TILES_AT, Level, map_title
from npp_rl.levels.replays import ReplayError, find_replays, read_replays, validate
from npp_rl.levels.sources import parts_of
from npp_rl.simulator import DEAD, WON, build_bank, check_map, new_state, play, reset_game, simulate
from npp_rl.simulator.layout import CAUSE_NAMES
from npp_rl.viewing import render, video
from npp_rl.viewing.figure import draw_ninja, look_of_ninja
from npp_rl.viewing.shapes import HEIGHT, MOVING, WIDTH, Now, at_start, draw_tiles, look, things

MOST_FRAMES = 20_000  # of a game
MOST_LEVELS = 64  # of one answer
FILM_FRAMES = 1_800  # of a GIF or a video: half a minute
GIF_EVERY = 3  # frames; a GIF's pictures last whole hundredths of a second, and 3 frames are 5 of them
GIF_COLOURS = 48


class NotThere(ValueError):
    """What was asked for does not exist."""


def tables() -> dict:
    return drawing.tables()


def _known(datasets: list[str]) -> dict[str, Level]:
    """The levels of data sets by digest; not the built-in ones, which `level_of` makes when they are asked for."""
    words = tuple(word for word in datasets if word != "builtin")
    return _loaded(words, _stamp(part for word in words for part in parts_of(word) if part != "builtin"))


@functools.lru_cache(maxsize=1)
def _loaded(datasets, stamp):
    return {level.digest: level for word in datasets for level in load_levels(word)}


@functools.cache
def _rows() -> dict[str, tuple[int, dict]]:
    """Digest of a built-in level -> its number in its category and split, and its row of the table."""
    counts, found = {}, {}
    for row in builtin.table():
        key = row["category"], row["split"]
        number = counts[key] = counts.get(key, -1) + 1
        found[row["sha256"]] = number, row
    return found


def level_of(digest: str, datasets: list[str], known: dict[str, Level] | None = None) -> Level | None:
    """The level with this digest, if it is in one of the data sets. known: `_known` of them, for several levels."""
    known = _known(datasets) if known is None else known
    if digest in known:
        return known[digest]
    if "builtin" not in datasets or digest not in _rows():
        return None
    number, row = _rows()[digest]
    return _generated(row["category"], row["seed"], row["split"], number)


@functools.lru_cache(4096)
def _generated(category, seed, split, number) -> Level:
    return generate(category, seed, split, name=f"{category}/{split}_{number:04d}")


def listed(datasets: list[str]) -> dict:
    """Every level of the data sets: `levels`, rows of digest, id, category, title and par (frames, None: not known)."""
    rows = []
    pars = builtin.pars()
    if "builtin" in datasets:
        for digest, (number, row) in _rows().items():
            rows.append([digest, f"{row['category']}/{row['split']}_{number:04d}", row["category"], "", row["par"]])
    for digest, level in _known(datasets).items():
        rows.append([digest, level.id, level.category, level.title, pars.get(digest)])
    return {"levels": rows}


def geometry(digests: list[str], datasets: list[str]) -> dict:
    """How levels look at their start (see `drawing`), and their maps: `levels` by digest, and `symbols`."""
    symbols, found, known = Symbols(), {}, _known(datasets)
    for digest in digests[:MOST_LEVELS]:
        if (level := level_of(digest, datasets, known)) is not None:
            names = {
                "id": level.id,
                "category": level.category,
                "title": level.title,
                "tier": TIERS.get(level.category),
            }
            data = base64.b64encode(level.map_data).decode()
            found[digest] = {**still_picture(level, symbols), **names, "map": data}
    return {"levels": found, "symbols": symbols.operations}


def map_of(text: str) -> bytes:
    """Map bytes of base64. Raises ValueError for what is no map."""
    data = base64.b64decode(text, validate=True)
    check_map(data)
    return data


def inputs_from(actions: str, frame_skip: int, frames: int) -> bytes:
    """Input bytes of an evaluation's actions. Raises ValueError."""
    if not actions or set(actions) - set("012345") or not 1 <= frame_skip <= 60 or not 1 <= frames <= MOST_FRAMES:
        raise ValueError("the evaluation keeps no actions that can be played")
    return inputs_of(actions, frame_skip, frames)


def keys_from(inputs: str) -> bytes:
    """Input bytes (PHYSICS.md 7) of hexadecimal digits, one a frame. Raises ValueError."""
    if len(inputs) > MOST_FRAMES or set(inputs) - set("0123456789abcdef"):
        raise ValueError(f"inputs: expected at most {MOST_FRAMES:,} hexadecimal digits")
    return bytes(int(digit, 16) for digit in inputs)


class Stage:
    """A game that is played frame by frame, and what is seen of it.

    `track` has, for each frame from the start, the ninja's `x`, `y` (px) and its speed; and changes as [frame, ...]:
    `pose` (symbol), `gold`, `still` (all pieces of what stands), and for each of `movers` its `look` (pieces relative
    to its place) and its `at` (places in eighths of a px: x, y, then differences).
    """

    def __init__(self, map_data: bytes):
        self.map_data = map_data
        self.bank = build_bank([map_data])
        _, self.state = new_state(self.bank, 1)
        reset_game(self.bank, self.state, 0, 0)
        self.ninja = self.state.ninja[0]
        entries = render.numbered_things(map_data, self.bank)
        self.moving = [entry for entry in entries if entry[0].kind in MOVING]
        self.still = [entry for entry in entries if entry[0].kind not in MOVING]
        self.index = np.array([index for _, index, _ in self.still], np.int64)
        self.doors = int(self.bank.level["doors"][0])
        self.symbols = Symbols()
        self.frame, self.keys, self.seen, self.places = 0, bytearray(), None, [None] * len(self.moving)
        self.looks = {}
        self.clear()
        self._note()

    def clear(self) -> None:
        """Begin a new part of the track."""
        self.track = {"x": [], "y": [], "speed": [], "pose": [], "gold": [], "still": []}
        self.movers = [{"look": [], "at": []} for _ in self.moving]

    @property
    def over(self) -> bool:
        return int(self.ninja["state"]) in (DEAD, WON)

    def advance(self, key: int) -> None:
        """Play a frame with an input byte (PHYSICS.md 7), unless the game is over."""
        if self.over:
            return
        one = np.frombuffer(bytes([key]), np.uint8)
        play(self.bank, self.state, 0, one, np.zeros((1, 4)), np.zeros(1, np.uint8))
        self.frame += 1
        self.keys.append(key)
        self._note()

    def _note(self):
        ninja, track = self.ninja, self.track
        track["x"].append(float(ninja["x"]))
        track["y"].append(float(ninja["y"]))
        track["speed"].append(round(float(np.hypot(ninja["u"], ninja["v"])), 2))
        _, shape, _, _, pose, facing = look_of_ninja(ninja)
        self._change(track["pose"], self.symbols.name(shape, (pose, facing)))
        self._change(track["gold"], int(ninja["gold"]))
        state = self.state
        seen = (
            state.active[0, self.index].tobytes(),
            state.state[0, self.index].tobytes(),
            state.closed[0, : self.doors].tobytes(),
        )
        if seen != self.seen:
            self.seen = seen
            active, states, closed = seen
            pieces = []
            for at, (thing, _, slot) in enumerate(self.still):
                shut = closed[slot] if 0 <= slot < len(closed) else 0
                pieces += look(thing, Now(thing.x, thing.y, active[at], states[at], shut))
            track["still"].append([self.frame, self.symbols.pieces(pieces)])
        for at, entry in enumerate(self.moving):
            self._note_mover(at, *entry)

    def _note_mover(self, at, thing, index, slot):
        x, y, a, b, _, _, direction, _ = self.state.mover[0, slot].item()
        status = int(self.state.state[0, index])
        key = (at, a, b, direction, status)
        if key not in self.looks:
            if len(self.looks) > 10_000:
                self.looks.clear()
            pieces = render.look_of_mover(self.bank, self.state, 0, thing, index, slot)
            self.looks[key] = self.symbols.pieces(
                [(layer, shape, px - x, py - y, *m) for layer, shape, px, py, *m in pieces]
            )
        self._change(self.movers[at]["look"], self.looks[key])
        place = (round(8 * x), round(8 * y))
        before = self.places[at] if self.movers[at]["at"] else (0, 0)
        self.movers[at]["at"] += [place[0] - before[0], place[1] - before[1]]
        self.places[at] = place

    def _change(self, changes, value):
        if not changes or changes[-1][1] != value:
            changes.append([self.frame, value])

    def ended(self) -> dict:
        """How the game stands: frames, outcome ("won", "died" or ""), cause of death."""
        state = int(self.ninja["state"])
        outcome = {WON: "won", DEAD: "died"}.get(state, "")
        cause = CAUSE_NAMES[int(self.ninja["cause"])] if outcome == "died" else ""
        return {"frames": self.frame, "outcome": outcome, "cause": cause}

    def answer(self) -> dict:
        """The track since the last answer, symbols that are new in it, and how the game stands."""
        symbols, self.symbols.operations = self.symbols.operations, {}
        found = {**self.ended(), **self.track, "movers": self.movers, "symbols": symbols}
        found["first"] = self.frame - len(self.track["x"]) + 1
        self.clear()
        return found


def game(map: str, inputs: str = "", actions: str = "", frame_skip: int = 4, frames: int = 0) -> dict:
    """A game from its start, by input digits or by an evaluation's actions: `Stage.answer`, inputs, tiles and title."""
    data = map_of(map)
    keys = inputs_from(actions, frame_skip, frames) if actions else keys_from(inputs)
    stage = Stage(data)
    for key in keys:
        stage.advance(key)
    level = Level(data, "", "")
    found = stage.answer()
    found["inputs"] = digits_of(stage.keys)
    return {**found, **drawing.ground(level), "title": map_title(data)}


@functools.lru_cache(maxsize=1)
def _replays(paths: tuple[str, ...], stamp) -> dict[bytes, list[tuple[str, str, bytes]]]:
    """What is played of a level -> (name, verdict, inputs) of each run in replay files."""
    found: dict[bytes, list] = {}
    for path in find_replays(paths):
        try:
            replays = read_replays(path)
        except ReplayError:
            continue
        for replay in replays:
            while replay.problem and replay.repaired:
                replay = replay.repaired
            if not replay.problem:
                name = path.name + (f" [{replay.part}]" if replay.part else "")
                found.setdefault(_played(replay.map_data), []).append((name, replay))
    return found


def _played(map_data: bytes) -> bytes:
    """A key of what can be played of a map: its tiles and records, whatever its header says."""
    return hashlib.sha256(map_data[TILES_AT:]).digest()


def ghosts(map: str, replays: list[str]) -> dict:
    """Runs on a level beside those of agents: `runs`, rows of name, verdict, frames and input digits.

    The first is the planner's par, if the level is built in.
    """
    data = map_of(map)
    rows = []
    digest = hashlib.sha256(data).hexdigest()
    if digest in _rows():
        _, row = _rows()[digest]
        inputs = inputs_of(row["actions"], builtin.TABLE_FRAME_SKIP, row["par"])
        rows.append(["par of the planner", "won", row["par"], digits_of(inputs)])
    if replays:
        for name, replay in _replays(tuple(replays), _stamp(replays)).get(_played(data), ())[:50]:
            judged = validate(replay)
            judged = judged.repaired or judged
            keys = judged.replay.inputs[: judged.frames]
            rows.append([name, judged.verdict, judged.frames, digits_of(keys)])
    return {"runs": rows}


def digits_of(inputs: bytes) -> str:
    """Hexadecimal digits of input bytes (PHYSICS.md 7), one a frame."""
    return "".join(f"{key & 15:x}" for key in inputs)


def _stamp(paths):
    """Changes when one of the files changes, or when a file comes, goes or is replaced in one of the folders."""
    places = [Path(place) for path in paths for place in (path, *(folder for folder, _, _ in os.walk(path)))]
    return tuple((place, place.stat().st_mtime_ns) for place in places)


def _run(map_data: bytes, inputs: str):
    """Positions, outcome and cause, as `render.draw_level` takes them."""
    keys = keys_from(inputs)
    places, states = simulate(map_data, keys)
    end = int(states[-1]) if len(states) else 0
    outcome = {WON: "won", DEAD: "died"}.get(end, "unfinished")
    cause = ""
    if outcome == "died":
        bank = build_bank([map_data])
        _, state = new_state(bank, 1)
        reset_game(bank, state, 0, 0)
        play(bank, state, 0, np.frombuffer(keys, np.uint8), np.zeros((len(keys), 4)), np.zeros(len(keys), np.uint8))
        cause = CAUSE_NAMES[int(state.ninja["cause"][0])]
    start = Level(map_data, "", "").spawn
    return np.concatenate([[start], places[:, :2]]), outcome, cause


def trace(map: str, runs: list[str], kind: str) -> dict:
    """A picture of a level with the ways of some runs (input digits): `data`, base64 of a PNG or SVG file."""
    data = map_of(map)
    ways = [_run(data, inputs) for inputs in runs[:64]]
    if kind == "png":
        stream = io.BytesIO()
        Image.fromarray(render.draw_level(data, 2, trajectories=ways)).save(stream, "PNG")
        content = stream.getvalue()
    elif kind == "svg":
        content = _svg(data, ways).encode()
    else:
        raise ValueError("expected png or svg")
    return {"data": base64.b64encode(content).decode()}


def _svg(data: bytes, ways) -> str:
    pen = SvgPen()
    draw_tiles(pen, data)
    for _, shape, x, y, *more in sorted(
        (piece for thing in things(data) for piece in look(thing, at_start(thing))), key=lambda piece: piece[0]
    ):
        shape(pen, x, y, *more)
    for points, outcome, cause in ways:
        places = [tuple(p) for p in points.tolist()]
        if len(places) > 1:
            pen.line(places, 1.6, (*render.OUTCOMES[outcome], 210))
        render.draw_end(pen, *places[-1], outcome, cause)
    draw_ninja(pen, *Level(data, "", "").spawn)
    ground = "#" + "".join(f"{value:02x}" for value in render.BACKGROUND)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{ground}"/>{"".join(pen.parts)}</svg>\n'
    )


def film(map: str, inputs: str, title: str, kind: str) -> dict:
    """A game as a GIF (20 pictures a second, half as large) or an MP4 (60): `data`, base64 of the file."""
    data, keys = map_of(map), keys_from(inputs)
    if len(keys) > FILM_FRAMES:
        raise ValueError(f"the game has {len(keys)} frames, expected at most {FILM_FRAMES} for a film")
    plain = "".join(c if c.isprintable() else "?" for c in title)[:60]
    pictures = video.game_pictures(data, keys, plain)
    if kind == "gif":
        shown = []
        for frame, picture in enumerate(pictures):
            if frame % GIF_EVERY == 0:
                small = Image.fromarray(picture).reduce(2)
                shown.append(small.quantize(GIF_COLOURS) if not shown else small.quantize(palette=shown[0], dither=0))
        stream = io.BytesIO()
        shown[0].save(stream, "GIF", save_all=True, append_images=shown[1:], duration=50, loop=0)
        content = stream.getvalue()
    elif kind == "mp4":
        if not video.available():
            raise ValueError(video.NEEDS)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "film.mp4"
            video.write_video(path, pictures)
            content = path.read_bytes()
    else:
        raise ValueError("expected gif or mp4")
    return {"data": base64.b64encode(content).decode()}
