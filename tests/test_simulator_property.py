"""Random maps and inputs: nothing breaks, nothing reads out of bounds, and the short cuts change no bit.

Run as a script it plays random games and prints how many frames; the tests do so in a process with bounds checks.
"""

import math
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from npp_rl.simulator import build_bank, frame, new_state, reset_game, simulate_final
from npp_rl.simulator.compiled import njit
from npp_rl.simulator.geometry import nearest, sweep_time, wall_normal
from npp_rl.simulator.layout import (
    COLUMNS,
    CONVEX_ARC,
    DOOR_LINE,
    ENTITY_TYPES,
    ROWS,
)

STILL = (1, 2, 3, 5, 6, 8, 10, 11, 21)  # types that never move, nor move the ninja faster than launch pads do


def random_map(rng, tile_numbers, types, most_entities=40, spawn=None):
    """Map u1: tiles drawn from `tile_numbers`, half of the cells empty or full, and entities of `types` anywhere."""
    tiles = rng.choice(tile_numbers, 966)
    plain = rng.random(966)
    tiles[plain < 0.4] = 0
    tiles[plain > 0.9] = 1
    records = rng.integers(0, 256, (rng.integers(0, most_entities + 1), 5))
    records[:, 0] = rng.choice(types, len(records))
    inside = rng.random(len(records)) < 0.9
    records[inside, 1] = rng.integers(4, 173, inside.sum())
    records[inside, 2] = rng.integers(4, 97, inside.sum())
    records[:, 3] %= 8
    records[:, 4] %= 4
    data = np.zeros(1235 + records.size, np.uint8)
    data[184:1150] = tiles
    data[1156], data[1200] = rng.integers(0, 4), rng.integers(0, 20)
    data[1231:1233] = (rng.integers(4, 173), rng.integers(4, 97)) if spawn is None else spawn
    data[1235:] = records.ravel()
    return data, tiles.reshape(23, 42)


@njit
def _play_games(bank, state, inputs, outside):
    """Play every level with random inputs u1 [levels, frames], also past death and victory.

    Returns the first level with a number that is not finite, or -1; counts in outside [levels] the frames that the
    ninja is out of the field.
    """
    for i in range(len(inputs)):
        reset_game(bank, state, i, i)
        n = state.ninja[i]
        for t in range(inputs.shape[1]):
            b = inputs[i, t]
            frame(bank, state, i, -1 if b & 4 else (1 if b & 2 else 0), b & 1)
            if not (math.isfinite(n.x) and math.isfinite(n.y) and math.isfinite(n.u) and math.isfinite(n.v)):
                return i
            if n.x < 0.0 or n.x > 1056.0 or n.y < 0.0 or n.y > 600.0:
                outside[i] += 1
        for slot in range(bank.level[i].movers):
            m = state.mover[i, slot]
            if not (math.isfinite(m.x) and math.isfinite(m.y) and math.isfinite(m.a) and math.isfinite(m.b)):
                return i
    return -1


def random_inputs(rng, games, frames):
    """Input bytes u1 [games, frames] that are held for some frames, as a player's are."""
    keys = rng.integers(0, 256, (games, frames), np.uint8)
    held = rng.random((games, frames)) < 0.9
    held[:, 0] = False
    at = np.maximum.accumulate(np.where(held, 0, np.arange(frames)), 1)
    return np.take_along_axis(keys, at, 1)


def play_random_games(seed, frames, games=125, length=400):
    """Plays at least `frames` frames on random maps of all tile bytes and entity types; raises on what must not be.

    Chaser drones and lasers are alive in half of the games.
    """
    rng = np.random.default_rng(seed)
    done = 0
    while done < frames:
        maps = [random_map(rng, np.arange(256), (*ENTITY_TYPES, 0, 4, 15, 23, 99))[0].tobytes() for _ in range(games)]
        bank = build_bank(maps, unfinished=done // (games * length) % 2 == 1)
        _, state = new_state(bank, games)
        broken = _play_games(bank, state, random_inputs(rng, games, length), np.zeros(games, np.int64))
        assert broken < 0, f"seed {seed}, after {done} frames: {maps[broken].hex()}"
        done += games * length
    return done


def test_two_million_random_frames():
    assert play_random_games(1, 2_000_000) >= 2_000_000


@pytest.mark.slow
def test_twenty_million_random_frames():
    assert play_random_games(2, 20_000_000) >= 20_000_000


@njit
def _read_edge(bank, k):
    return bank.level[0].edge_h[k]


@njit
def _read_pool(bank, k):
    return bank.near[k]


def test_random_frames_with_bounds_checks(tmp_path):
    # A warm cache would ignore the setting, so the process compiles into an empty folder of its own.
    environment = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, __file__, "100000"], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:3] == ["100000 frames", "IndexError", "IndexError"]
    assert list(tmp_path.rglob("*.nbc"))


def main():
    print(play_random_games(3, int(sys.argv[1])), "frames")
    bank = build_bank([random_map(np.random.default_rng(0), np.arange(38), ENTITY_TYPES)[0].tobytes()])
    for read, size in ((_read_edge, bank.level["edge_h"].shape[1]), (_read_pool, len(bank.near))):
        read(bank, size - 1)
        try:
            read(bank, size)
        except IndexError:
            print("IndexError")


def test_a_ninja_in_free_space_stays_in_the_field():
    """Tiles 0..33 leave no hole (34..37 may, PHYSICS.md 3.3), so who starts with free cells around stays inside.

    The maps hold every type that stands still, launch pads, one-way platforms and doors included. What moves can push
    the ninja through a wall (the push of a bounce block or a thwump is not swept), and boost pads add speed.
    """
    rng = np.random.default_rng(4)
    maps = []
    while len(maps) < 500:
        data, tiles = random_map(rng, np.arange(34), STILL)
        row, column = rng.integers(1, 22), rng.integers(1, 41)
        tiles[row - 1 : row + 2, column - 1 : column + 2] = 0
        data[184:1150] = tiles.ravel()
        data[1231:1233] = 4 * (column + 1) + 2, 4 * (row + 1) + 2
        maps.append(data.tobytes())
    bank = build_bank(maps)
    _, state = new_state(bank, len(maps))
    outside = np.zeros(len(maps), np.int64)
    assert _play_games(bank, state, random_inputs(rng, len(maps), 1000), outside) == -1
    assert not outside.any(), maps[int(outside.argmax())].hex()


@njit
def _compiled(bank, state, queries, found):
    """The three queries over segments at the places queries f8 [n, 4] (x, y, wx, wy) -> found f8 [n, 5]."""
    level = bank.level[0]
    for k in range(len(queries)):
        x, y, wx, wy = queries[k]
        side, a, b = nearest(level, bank.segment, state.closed, 0, x, y, 10.0)
        found[k, 0] = side
        found[k, 1] = a
        found[k, 2] = b
        found[k, 3] = sweep_time(level, bank.segment, state.closed, 0, x, y, wx, wy, 5.0)
        found[k, 4] = wall_normal(level, bank.segment, state.closed, 0, x, y)


def region(bank, closed, x1, y1, x2, y2):
    """Region of PHYSICS.md 3.6."""
    level = bank.level[0]
    columns = [min(max(math.floor(x / 24), 0), COLUMNS - 1) for x in (x1, x2)]
    rows = [min(max(math.floor(y / 24), 0), ROWS - 1) for y in (y1, y2)]
    for column in range(columns[0], columns[1] + 1):
        for row in range(rows[0], rows[1] + 1):
            cell = column * ROWS + row
            for k in range(level["segment_start"][cell], level["segment_start"][cell + 1]):
                s = bank.segment[k]
                if s["kind"] != DOOR_LINE or closed[s["door"]]:
                    yield int(s["kind"]), float(s["x1"]), float(s["y1"]), float(s["x2"]), float(s["y2"])


def closest(kind, x1, y1, x2, y2, x, y):
    """PHYSICS.md 6.5, as it stands there."""
    dx, dy = x - x1, y - y1
    if kind >= CONVEX_ARC:
        if dx * x2 > 0 and dy * y2 > 0:
            r = math.sqrt(dx * dx + dy * dy)
            return (r < 24 if kind == CONVEX_ARC else r > 24), x1 + (24 * dx) / r, y1 + (24 * dy) / r
        return (False, x1 + 24 * x2, y1) if dx * x2 > dy * y2 else (False, x1, y1 + 24 * y2)
    lx, ly = x2 - x1, y2 - y1
    t = min(max((dx * lx + dy * ly) / (lx * lx + ly * ly), 0.0), 1.0)
    return kind != DOOR_LINE and dy * lx - dx * ly < 0, x1 + t * lx, y1 + t * ly


def plain_nearest(bank, closed, x, y, rho):
    """PHYSICS.md 6.6."""
    best, side, a, b = 9999999.0, 0, 0.0, 0.0
    for s in region(bank, closed, x - rho, y - rho, x + rho, y + rho):
        back, alpha, beta = closest(*s, x, y)
        e = (x - alpha) * (x - alpha) + (y - beta) * (y - beta)
        if not back:
            e = e - 0.1
        if e < best:
            best, side, a, b = e, (-1 if back else 1), alpha, beta
    return side, a, b


def plain_wall(bank, closed, x, y):
    """PHYSICS.md 4.9 step 3."""
    for s in region(bank, closed, x - 10.1, y - 10.1, x + 10.1, y + 10.1):
        _, a, b = closest(*s, x, y)
        dx, dy = x - a, y - b
        r = math.sqrt(dx * dx + dy * dy)
        if abs(dy) < 0.00001 and 0 < r <= 10.1 and dx / r != 0:
            return dx / r
    return 0.0


def time_point(p, q, wx, wy, a, b, rho):
    """PHYSICS.md 6.1."""
    dx, dy = p - a, q - b
    d, w, k = dx * dx + dy * dy, wx * wx + wy * wy, dx * wx + dy * wy
    if d - rho * rho > 0:
        root = k * k - w * (d - rho * rho)
        return (-k - math.sqrt(root)) / w if w > 0.0001 and k < 0 and root >= 0 else 1.0
    return 0.0


def time_line(p, q, wx, wy, a1, b1, a2, b2, rho):
    """PHYSICS.md 6.2."""
    lx, ly = a2 - a1, b2 - b1
    length = math.sqrt(lx * lx + ly * ly)
    ix, iy = lx / length, ly / length
    n, s = (p - a1) * iy - (q - b1) * ix, (p - a1) * ix + (q - b1) * iy
    if abs(n) >= rho:
        c = wx * iy - wy * ix
        if c * n < 0:
            t = min((abs(n) - rho) / abs(c), 1.0)
            if 0 <= s + t * (wx * ix + wy * iy) <= length:
                return t
    elif 0 <= s <= length:
        return 0.0
    return 1.0


def time_arc(p, q, wx, wy, a, b, h, w, rho):
    """PHYSICS.md 6.3."""
    dx, dy = p - a, q - b
    d, w2, k = dx * dx + dy * dy, wx * wx + wy * wy, dx * wx + dy * wy
    outer, inner, t = 24 + rho, 24 - rho, 1.0
    if d > outer * outer:
        root = k * k - w2 * (d - outer * outer)
        if w2 > 0.0001 and k < 0 and root >= 0:
            t = (-k - math.sqrt(root)) / w2
    elif d < inner * inner:
        if w2 > 0.0001:
            t = min((-k + math.sqrt(k * k - w2 * (d - inner * inner))) / w2, 1.0)
    else:
        t = 0.0
    return t if (dx + t * wx) * h > 0 and (dy + t * wy) * w > 0 else 1.0


def plain_sweep(bank, closed, p, q, wx, wy, rho):
    """PHYSICS.md 6.7."""
    m = rho + 1
    best = 1.0
    box = min(p, p + wx) - m, min(q, q + wy) - m, max(p, p + wx) + m, max(q, q + wy) + m
    for kind, x1, y1, x2, y2 in region(bank, closed, *box):
        if kind >= CONVEX_ARC:
            ends, inside = ((x1 + 24 * x2, y1), (x1, y1 + 24 * y2)), time_arc
        else:
            ends, inside = ((x1, y1), (x2, y2)), time_line
        best = min(best, *(time_point(p, q, wx, wy, *end, rho) for end in ends))
        best = min(best, inside(p, q, wx, wy, x1, y1, x2, y2, rho))
    return best


def test_queries_equal_plain_loops_over_whole_regions():
    rng = np.random.default_rng(5)
    count = 300
    for _ in range(12):
        data, _ = random_map(rng, np.arange(38), (5, 6, 8))
        bank = build_bank([data.tobytes()])
        _, state = new_state(bank, 1)
        reset_game(bank, state, 0, 0)
        q = np.stack([*rng.uniform((10, 10), (1046, 590), (count, 2)).T, *rng.normal(0, 3, (2, count))], 1)
        # Places where distances tie and where cells end: on the lattice, and next to it.
        lattice = rng.random((count, 2)) < 0.5
        q[:, :2][lattice] = np.round(q[:, :2][lattice] / 2) * 2
        q[:, :2] += rng.choice([0, 0, 1e-13, -1e-13, 1e-9, 1e-6], (count, 2))
        q[:, 2:][rng.random((count, 2)) < 0.2] = 0
        q[: count // 20, :2] = rng.uniform((-500, -500), (2000, 1500), (count // 20, 2))
        found = np.zeros((count, 5))
        _compiled(bank, state, q, found)
        closed = state.closed[0]
        for (x, y, wx, wy), got in zip(q.tolist(), found.tolist(), strict=True):
            side, a, b = plain_nearest(bank, closed, x, y, 10.0)
            plain = [side, a, b, plain_sweep(bank, closed, x, y, wx, wy, 5.0), plain_wall(bank, closed, x, y)]
            assert got == plain, (x, y, wx, wy)


def plain_balls(bank, closed, path, records, repelling):
    """Positions [balls, 2] of death balls after the plain loops of PHYSICS.md 5.19, for a living ninja on a path."""
    balls = [[6.0 * x, 6.0 * y, 0.0, 0.0] for x, y in records]
    for nx, ny in path:
        for index, ball in enumerate(balls):
            dx, dy = nx - ball[0], ny - ball[1]
            r = math.sqrt(dx * dx + dy * dy)
            ball[2] += dx / r * 0.04
            ball[3] += dy / r * 0.04
            m = math.sqrt(ball[2] * ball[2] + ball[3] * ball[3])
            if m > 0.85:
                n = (m - 0.85) * 0.9
                n = (0.0 if n <= 0.01 else n) + 0.85
                ball[2], ball[3] = ball[2] / m * n, ball[3] / m * n
            t = plain_sweep(bank, closed, ball[0], ball[1], ball[2], ball[3], 4.0)
            ball[0], ball[1] = ball[0] + t * ball[2], ball[1] + t * ball[3]
            sx = sy = 0.0
            for _ in range(16):
                side, a, b = plain_nearest(bank, closed, ball[0], ball[1], 8.0)
                dx, dy = ball[0] - a, ball[1] - b
                r = math.sqrt(dx * dx + dy * dy)
                length = 8 - r * side
                if side == 0 or length < 0.0000001 or r == 0:
                    break
                ball[0], ball[1] = ball[0] + dx / r * length, ball[1] + dy / r * length
                sx, sy = sx + dx / r, sy + dy / r
            if side != 0 and length >= 0.0000001 and r == 0:
                continue
            m = math.sqrt(sx * sx + sy * sy)
            if m > 0:
                dx, dy = sx / m, sy / m
                p = ball[2] * dx + ball[3] * dy
                if p < 0:
                    k = 1 if math.sqrt(ball[2] * ball[2] + ball[3] * ball[3]) <= 1.35 else 2
                    ball[2], ball[3] = ball[2] - dx * p * k, ball[3] - dy * p * k
            if index + 1 < repelling:
                for other in balls[index + 1 :]:
                    dx, dy = ball[0] - other[0], ball[1] - other[1]
                    r = math.sqrt(dx * dx + dy * dy)
                    if 0 < r < 16:
                        dx, dy = dx / r * 4, dy / r * 4
                        ball[2], ball[3], other[2], other[3] = ball[2] + dx, ball[3] + dy, other[2] - dx, other[3] - dy
    return [ball[:2] for ball in balls]


def crowded_map(rng):
    """A hall with 200 death balls and 1,000 mines, and the ninja in a closed chamber of it."""
    tiles = np.zeros((23, 42), np.uint8)
    tiles[:5, :5] = 1
    tiles[:4, :4] = 0
    tiles[rng.random((23, 42)) < 0.03] = 8
    tiles[:4, :4] = 0
    balls = [(int(x), int(y)) for x, y in rng.integers((30, 30), (170, 94), (200, 2))]
    mines = [(int(x), int(y)) for x, y in rng.integers((30, 6), (170, 94), (1000, 2))]
    data = bytearray(1230)
    data[184:1150], data[1200] = tiles.tobytes(), 200
    data += bytes([0, 8, 8, 0, 0])
    data += b"".join(bytes([25, x, y, 0, 0]) for x, y in balls)
    data += b"".join(bytes([int(rng.choice([1, 21])), x, y, 0, 0]) for x, y in mines)
    return bytes(data), balls


def test_a_crowded_map_equals_plain_loops_and_runs_fast():
    data, balls = crowded_map(np.random.default_rng(6))
    frames = 60
    inputs = bytes([2] * 20 + [5] * 20 + [0] * 20)
    trajectory, states, _, final = simulate_final(data, inputs)
    assert len(states) == frames and states[-1] < 6
    bank = build_bank([data])
    path = [(48.0, 48.0), *trajectory[:-1, :2].tolist()]
    expected = plain_balls(bank, np.zeros(1), path, balls, 200)
    got = final[final[:, 0] == 25][:, 1:3].tolist()
    assert got == expected
    assert sum(tuple(p) != (6.0 * x, 6.0 * y) for p, (x, y) in zip(got, balls, strict=True)) > 150

    _, state = new_state(bank, 1)
    outside = np.zeros(1, np.int64)
    _play_games(bank, state, np.zeros((1, 1), np.uint8), outside)  # compiles
    start = time.process_time()
    assert _play_games(bank, state, np.zeros((1, 1000), np.uint8), outside) == -1
    speed = 1000 / (time.process_time() - start)
    assert speed >= 5000, f"{speed:.0f} frames/s"


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main()
