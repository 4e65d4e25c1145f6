"""Figures of the drawn levels: halls, tubes, rings, shafts, valleys, caves, cells, on a canvas.

Each function draws into a `Canvas` that is all rock. Lengths are half pixels; a tile is 48 (canvas.TILE).
"""

import numpy as np

from npp_rl.levels.canvas import HEIGHT, TILE, WIDTH, Canvas
from npp_rl.levels.drafts import Dice

HALF = TILE // 2
_COMPASS = ((1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1))


def _extent(dice: Dice, width, height) -> tuple[int, int, int, int]:
    """A box on whole tiles -> (left, top, right, bottom), half px."""
    w = max(dice.between(*width), dice.between(*width)) if dice.chance(60) else dice.between(*width)
    h = max(dice.between(*height), dice.between(*height)) if dice.chance(60) else dice.between(*height)
    left = dice.pick((dice.between(0, 42 - w), (42 - w) // 2))
    top = dice.pick((dice.between(0, 23 - h), (23 - h) // 2))
    return TILE * left, TILE * top, TILE * (left + w), TILE * (top + h)


def _room(c: Canvas, dice: Dice, left, top, right, bottom) -> None:
    """Carve a room of one of several outlines."""
    kind = dice.below(10)
    x, y, w, h = (left + right) // 2, (top + bottom) // 2, (right - left) // 2, (bottom - top) // 2
    if kind < 5:
        c.carve(c.box(left, top, right, bottom))
    elif kind < 8:
        c.carve(c.octagon(x, y, w, h, TILE * dice.between(1, 4)))
    else:
        c.carve(c.box(left, top, right, bottom))
        cut = dice.between(1, 5)
        for tip, side in ((left, 1), (right, -1)):
            if dice.chance(70):  # a slope 1:1 or 2:1 in the lower or upper corner
                up, steep = dice.chance(35), dice.between(1, 2)
                dy = c.y - top if up else bottom - c.y
                c.fill(((c.x - tip) * side * steep + dy <= TILE * cut) & ((c.x - tip) * side >= 0) & (dy >= 0))


def _thing(c: Canvas, dice: Dice, x, y, big: int) -> None:
    """Fill one shape around a point; big: greatest width, tiles."""
    kind, w, h = dice.below(14), dice.between(1, big), dice.between(1, 3)
    if kind < 4:
        c.fill(c.box(x, y, x + TILE * w, y + HALF * dice.between(1, 2 * h), 1))
    elif kind == 4:
        c.fill(c.box(x, y, x + TILE * h, y + TILE * w, 1))
    elif kind == 5:
        c.fill(c.diamond(x, y, HALF * (w + 1), dice.pick((HALF * (w + 1), TILE, HALF))))
    elif kind < 8:
        c.fill(c.triangle(x, y, HALF * (w + 1), dice.pick((HALF * (w + 1), TILE, HALF)), dice.chance(60)))
    elif kind == 8:
        c.fill(c.disc(x, y, HALF * (h + 1)))
    elif kind == 9:  # half a disc, flat above or below
        y0, r = y // TILE * TILE, HALF * (h + 2)
        c.fill(c.disc(x, y0, r) & ((c.y <= y0) if dice.chance(50) else (c.y >= y0)))
    elif kind < 12:  # a bar at some angle
        dx, dy = dice.pick(((1, 0), (2, 1), (1, 1), (1, 2), (0, 1), (-1, 1), (-2, 1), (-1, 2)))
        c.fill(c.stroke(x, y, x + HALF * w * dx, y + HALF * w * dy, dice.pick((13, 20, HALF))))
    elif kind == 12:  # stairs
        side = dice.pick((-1, 1))
        for k in range(min(w, 5)):
            left = x + side * TILE * k - (TILE if side < 0 else 0)
            c.fill(c.box(left, y - HALF * k, left + TILE, y + TILE, 1))
    else:  # a cup, open above
        c.fill(c.box(x, y, x + TILE * (w + 2), y + TILE * (h + 1), 1))
        c.carve(c.box(x + HALF, y - HALF, x + TILE * (w + 2) - HALF, y + TILE * h))


def _things(c: Canvas, dice: Dice, box, share: int, big: int) -> None:
    """Fill shapes into a box, one in about `share` square tiles."""
    left, top, right, bottom = box
    count = (right - left) * (bottom - top) // (TILE * TILE * share)
    for _ in range(dice.between(count // 3, count)):
        x, y = HALF * dice.between(left // HALF, right // HALF), HALF * dice.between(top // HALF, bottom // HALF)
        _thing(c, dice, x, y, big)


def _stand(c: Canvas, dice: Dice, box, count: int) -> None:
    """Fill blocks, wedges and pillars that stand on the floor or hang from the ceiling."""
    left, top, right, bottom = box
    for _ in range(count):
        x, w = TILE * dice.between(left // TILE, right // TILE), dice.between(1, 5)
        h = min(dice.between(1, 5), (bottom - top) // TILE - 3)
        down = dice.chance(35)
        tip = top + TILE * h if down else bottom - TILE * h
        if dice.chance(55):
            c.fill(c.box(x, min(tip, top if down else bottom), x + TILE * w, max(tip, top if down else bottom), 1))
            if dice.chance(40):  # a ramp beside it
                side = dice.pick((-1, 1))
                c.fill(c.triangle(x + TILE * w * (side > 0), tip, TILE * h * dice.between(1, 2), TILE * h, not down))
        else:
            c.fill(c.triangle(x, tip, dice.pick((TILE * h, TILE * h, 2 * TILE * h, HALF * h)), TILE * h, not down))


def hall(c: Canvas, dice: Dice) -> None:
    """A wide room with blocks, slopes and floating shapes."""
    box = _extent(dice, (12, 42), (7, 23))
    if dice.chance(40):
        box = (0, 0, WIDTH, HEIGHT)
    _room(c, dice, *box)
    _stand(c, dice, box, dice.between(0, 6))
    _things(c, dice, box, dice.pick((18, 30, 50, 90)), dice.pick((2, 4, 8)))


def partitions(c: Canvas, dice: Dice) -> None:
    """A room with walls across it, each with one or two gaps: long ways around."""
    box = left, top, right, bottom = _extent(dice, (14, 42), (8, 23))
    c.carve(c.box(*box))
    upright = dice.chance(60)
    low, high = (left, right) if upright else (top, bottom)
    other = (top, bottom) if upright else (left, right)
    at, turn = low + TILE * dice.between(2, 5), dice.below(2)
    while at < high - 2 * TILE:
        thick = dice.pick((HALF, TILE, TILE, 2 * TILE))
        wall = (at, other[0], at + thick, other[1]) if upright else (other[0], at, other[1], at + thick)
        c.fill(c.box(*wall, 1))
        for _ in range(dice.pick((1, 1, 1, 2))):
            gap = TILE * dice.between(2, 4)
            place = TILE * dice.between(other[0] // TILE, (other[1] - gap) // TILE)
            if dice.chance(60):  # in turn at both ends
                place = other[0] if turn else other[1] - gap
                turn = 1 - turn
            through, across = (at - 1, at + thick + 1), (place, place + gap)
            (x0, x1), (y0, y1) = (through, across) if upright else (across, through)
            c.carve(c.box(x0, y0, x1, y1))
        at += TILE * dice.between(3, 7)
    if dice.chance(50):
        _things(c, dice, box, 40, 3)


def tube(c: Canvas, dice: Dice) -> None:
    """A tube that bends by 45 or 90 degrees, with wider places."""
    pitch = TILE * dice.between(3, 6)
    radius = dice.pick((HALF + 6, 36, TILE, 60, 72, 84, 96)) + dice.pick((0, 0, 6))
    x, y = TILE * dice.between(4, 38), TILE * dice.between(3, 19)
    heading = 2 * dice.below(4)
    for _ in range(dice.between(4, 16)):
        for _ in range(8):
            turned = (heading + dice.pick((0, 0, 1, -1, 1, -1, 2, -2))) % 8
            dx, dy = _COMPASS[turned]
            x1, y1 = x + dx * pitch, y + dy * pitch
            if radius < x1 < WIDTH - radius and radius < y1 < HEIGHT - radius:
                break
            heading = dice.below(8)
        else:
            return
        c.carve(c.stroke(x, y, x1, y1, radius))
        x, y, heading = x1, y1, turned
        if dice.chance(20):
            r = TILE * dice.between(2, 4)
            c.carve(c.disc(x, y, r) if dice.chance(50) else c.octagon(x, y, r, r, r // 2))
            if dice.chance(40):
                c.fill(c.disc(x, y, r // 3))


def rings(c: Canvas, dice: Dice) -> None:
    """Ring-shaped tubes, round or with corners, one in the other or side by side."""
    x, y = TILE * dice.between(10, 32), TILE * dice.between(8, 15)
    if dice.chance(40):
        x, y = WIDTH // 2, HEIGHT // 2
    for _ in range(dice.pick((1, 1, 2, 3))):
        outer = TILE * dice.between(4, 11)
        wide = HALF * dice.between(3, 8)
        shape = dice.below(3)
        for r, edge in ((outer, c.carve), (outer - wide, c.fill)):
            while r > HALF:
                if shape == 0:
                    edge(c.disc(x, y, r))
                elif shape == 1:
                    edge(c.octagon(x, y, r, r, r * 2 // 3))
                else:
                    edge(c.box(x - r, y - r, x + r, y + r))
                r -= wide + TILE * dice.between(1, 2)
                if dice.chance(50):
                    break
        for _ in range(dice.between(0, 3)):
            dx, dy = dice.pick(_COMPASS)
            c.carve(c.stroke(x, y, x + dx * outer, y + dy * outer, HALF + 12 * dice.below(3)))
        x, y = x + TILE * dice.between(-16, 16), y + TILE * dice.between(-6, 6)


def shaft(c: Canvas, dice: Dice) -> None:
    """A tall room: walls that zigzag or stand upright, with ledges and slopes on both sides."""
    w, h = dice.between(3, 16), dice.between(13, 23)
    left, top = TILE * dice.between(0, 42 - w), TILE * dice.between(0, 23 - h)
    right, bottom = left + TILE * w, top + TILE * h
    c.carve(c.box(left, top, right, bottom))
    if w >= 5 and dice.chance(50):  # walls that zigzag
        pitch = TILE * dice.between(1, 4)
        count = TILE * h // pitch + 1
        reach = TILE * min(4, w // 2 - 1)
        lines = [[12 * dice.between(0, reach // 12) for _ in range(count)] for _ in range(2)]
        if dice.chance(50):
            lines[1] = lines[0]
        inside = c.box(left - TILE, top - TILE, right + TILE, bottom + TILE)
        c.fill(c.beside([left + n for n in lines[0]], top, pitch) & inside)
        c.fill(~c.beside([right - n for n in lines[1]], top, pitch) & inside)
    row, side = bottom - TILE * dice.between(2, 4), dice.below(2)
    while row > top + 3 * TILE and w >= 4 and dice.chance(85):
        reach = TILE * dice.between(1, max(w // 2, 1))
        edge, way = (left, 1) if side else (right, -1)
        if dice.chance(50):
            x0, x1 = sorted((edge, edge + way * reach))
            c.fill(c.box(x0, row, x1, row + HALF * dice.between(1, 3), 1))
        else:
            c.fill(c.triangle(edge, row, reach, dice.pick((reach, reach // 2, TILE)), dice.chance(65)))
        row -= TILE * dice.between(2, 5)
        side = 1 - side if dice.chance(70) else side
    if dice.chance(40):
        _things(c, dice, (left, top, right, bottom), 30, 3)
    for _ in range(dice.below(3)):  # side rooms
        y = TILE * dice.between(top // TILE + 2, bottom // TILE)
        x0, x1 = TILE * dice.between(0, 41), TILE * dice.between(left // TILE, right // TILE)
        c.carve(c.box(min(x0, x1), y - TILE * dice.between(2, 5), max(x0, x1), y))


def _profile(dice: Dice, count: int, low: int, high: int, steps) -> list[int]:
    heights = [dice.between(low // HALF, high // HALF) * HALF]
    for _ in range(count):
        step = dice.pick(steps) * dice.pick((-1, 1))
        heights.append(min(max(heights[-1] + step, low), high))
    return heights


def valley(c: Canvas, dice: Dice) -> None:
    """Ground of slopes, with or without a ceiling that follows its own line."""
    pitch = dice.pick((HALF, TILE, TILE, 2 * TILE, 3 * TILE))
    steps = dice.pick(((0, HALF), (0, TILE, HALF), (0, 0, TILE, 2 * TILE), (0, pitch, pitch // 2)))
    count = WIDTH // pitch
    left, top, right, bottom = _extent(dice, (18, 42), (9, 23))
    ground = _profile(dice, count, top + 3 * TILE, bottom, steps)
    c.carve(c.box(left, top, right, bottom))
    c.fill(c.below(ground, left, pitch))
    if dice.chance(60):
        gap = TILE * dice.between(3, 9)
        if dice.chance(50):
            ceiling = [y - gap for y in ground]
        else:
            ceiling = _profile(dice, count, top, max(top, bottom - 6 * TILE), steps)
        c.fill(~c.below(ceiling, left, pitch))
    if dice.chance(60):
        _things(c, dice, (left, top, right, bottom), 60, 4)


def cave(c: Canvas, dice: Dice) -> None:
    """A cave of smooth noise, with slopes and curves all around."""
    pitch = TILE * dice.between(2, 5)
    left, top, right, bottom = _extent(dice, (18, 42), (10, 23))
    rows, columns = HEIGHT // pitch + 3, WIDTH // pitch + 3
    values = dice.array(rows * columns, 100).reshape(rows, columns)
    c.carve(c.box(left, top, right, bottom) & (c.noise(values, pitch) < dice.between(42, 62) * pitch * pitch))


def cells(c: Canvas, dice: Dice) -> None:
    """One motif again and again, in rows and columns."""
    left, top, right, bottom = _extent(dice, (15, 42), (9, 23))
    c.carve(c.box(left, top, right, bottom))
    wide, high = TILE * dice.between(3, 8), TILE * dice.between(3, 7)
    x, y = c.x, c.y
    inside = c.box(left + TILE, top + TILE, right - TILE, bottom - TILE)
    staggered = dice.chance(40)
    c.x = (x - left + (y - top) // high % 2 * (wide // 2) * staggered) % wide
    c.y = (y - top) % high
    solid = c.solid.copy()
    for _ in range(dice.pick((1, 1, 2))):
        at = HALF * dice.between(1, wide // HALF - 2), HALF * dice.between(1, high // HALF - 2)
        _thing(c, dice, *at, max(wide // TILE - 2, 1))
    c.solid = np.where(inside, c.solid, solid)
    c.x, c.y = x, y


def rooms(c: Canvas, dice: Dice) -> None:
    """Rooms of many outlines, joined by passages from one to the next."""
    last = None
    for _ in range(dice.between(2, 7)):
        box = _extent(dice, (4, 15), (3, 10))
        _room(c, dice, *box)
        if dice.chance(50):
            _things(c, dice, box, 20, 3)
        spot = TILE * dice.between(box[0] // TILE + 1, box[2] // TILE - 1), box[3] - TILE
        if last:
            radius = dice.pick((HALF + 6, 36, TILE, 60))
            corner = (spot[0], last[1]) if dice.chance(50) else (last[0], spot[1])
            if dice.chance(30):  # a slope part of the way
                reach = min(abs(spot[0] - last[0]), abs(spot[1] - last[1]))
                corner = (
                    last[0] + (reach if spot[0] > last[0] else -reach),
                    last[1] + (reach if spot[1] > last[1] else -reach),
                )
            c.carve(c.stroke(*last, *corner, radius))
            c.carve(c.stroke(*corner, *spot, radius))
        last = spot


def spiral(c: Canvas, dice: Dice) -> None:
    """A tube that winds inwards, square or with cut corners."""
    wide, wall = TILE * dice.between(1, 3), TILE * dice.between(1, 2)
    radius = wide // 2 + dice.pick((0, 6))
    x0, y0, x1, y1 = _extent(dice, (16, 40), (12, 21))
    x0, y0, x1, y1 = x0 + wide, y0 + wide, x1 - wide, y1 - wide
    x, y = x0, y0
    step = wide + wall
    k = 0
    while x1 - x0 > step and y1 - y0 > step:
        corner = ((x1, y0), (x1, y1), (x0, y1), (x0, y0 + step))[k % 4]
        c.carve(c.stroke(x, y, *corner, radius))
        x, y = corner
        if k % 4 == 3:
            x0, y0, x1, y1 = x0 + step, y0 + step, x1 - step, y1 - step
            c.carve(c.stroke(x, y, x0, y0, radius))
            x, y = x0, y0
        k += 1
