"""Rooms of the procedural levels: what is carved out of the rock, and where ninja, switch, exit and mines go.

Each public function carves one kind of level into a `Draft` and returns False if its draws did not fit; the caller then
draws again. Rooms are written from left to right, and the caller mirrors half of them.

Sizes follow from the movement (PHYSICS.md 4). A floor jump held to its end rises 77 px, so steps are at most 3 tiles
high. A jump from standing reaches 210 px, a running one 360 px. A fall of more than 240 px onto flat ground kills,
unless there is a wall to slide down. Any flat wall can be climbed with wall jumps.
"""

from npp_rl.levels.drafts import COLUMNS, DOOR_SWITCH, LOCKED_DOOR, ROWS, Dice, Draft, carve_room, floor_mines


def horizontal_corridor(d: Draft, length=(4, 10), height=(1, 3), mines=(0, 0)) -> bool:
    """A straight corridor, some with a step or a hollow half way."""
    dice = d.dice
    count = dice.between(*mines)
    w, h = dice.between(*length), dice.between(max(height[0], 2 if count else 1), height[1])
    left, floor = dice.between(0, COLUMNS - w), dice.between(h - 1, ROWS - 1)
    right = left + w - 1
    d.open(left, floor - h + 1, right, floor)
    far = right if dice.chance(60) else dice.between(left + w // 2, right)
    d.place_any([(c, floor) for c in ((left, dice.between(left + 1, far - 1), far) if far - left > 1 else (left, far))])
    if w >= 8 and h >= 3 and dice.chance(30):  # a step or a hollow half way
        c = left + w // 2
        if dice.chance(50):
            d.tiles[floor, c - 1 : c + 1] = 4 if dice.chance(50) else 1
            taken = {(x - 6) // 4 for x, _ in (d.ninja, d.switch, d.exit)}
            if taken & {c - 1, c}:
                return False
        elif floor + 1 < ROWS:
            d.open(c - 1, floor + 1, c, floor + 1)
    _line_with_mines(d, left, right, floor, h, count)
    return True


def _line_with_mines(d: Draft, left: int, right: int, floor: int, h: int, count: int) -> None:
    """Put mines on the floor and below the ceiling of a corridor, with room to jump over and to land."""
    dice = d.dice
    taken = [(x - 6) // 4 for x, _ in (d.ninja, d.switch, d.exit)]
    low, high = [], []
    for column in dice.sample(range(left + 1, right + 1), right - left):
        if len(low) + len(high) >= count:
            break
        if h >= 3 and dice.chance(35) and all(abs(column - c) > 1 for c in high):
            high.append(column)  # at the corner left of this cell
        elif (
            all(column - c not in (-1, 0, 1, 2) for c in taken)
            and all(abs(column - c) >= 5 or (abs(column - c) == 1 and h >= 3) for c in low)
            and d.tiles[floor, column] == d.tiles[floor, column - 1] == 0
        ):
            low.append(column)
    for column in low:
        d.mine(column, floor, 0, 4)
    for column in high:
        if h > 3 or all(abs(column - c) >= 3 for c in low):
            d.mine(column, floor - h + 1, 0, 0)


def vertical_corridor(d: Draft, width=(1, 4), height=(4, 8), mines=(0, 0), ledges=0, both_sides=False) -> bool:
    """A shaft, to climb by its walls or to slide down. ledges: percent of the shafts that have some."""
    dice = d.dice
    count = dice.between(*mines)
    w, h = dice.between(max(width[0], 2 if count else 1), width[1]), dice.between(*height)
    left, top = dice.between(0, COLUMNS - w), dice.between(0, ROWS - h)
    right, bottom = left + w - 1, top + h - 1
    d.open(left, top, right, bottom)
    low, high = (dice.pick((left, right)), bottom), (dice.pick((left, right)), top)
    if h > 14 and dice.chance(40):
        high = (high[0], top + dice.between(0, 3))
    middle = (dice.pick((left, right)), dice.between(top + 1, bottom - 2) if h >= 4 else top)
    if w >= 3 and dice.chance(50):  # climb
        d.place(low, high, (right + left - high[0], high[1]))
    elif dice.chance(60):
        d.place(low, high, (right + left - low[0], bottom)) if w > 1 else d.place(low, middle, high)
    elif h <= 7 or w <= 3:  # slide down
        d.place(high, middle if dice.chance(40) else (right + left - low[0], bottom), low)
    else:
        d.place(low, middle, high)
    if len({d.ninja, d.switch, d.exit}) < 3:
        return False
    if w >= 4 and dice.chance(ledges):
        side = dice.below(2)
        for row in range(bottom - dice.between(2, 3), top + 2, -dice.between(3, 4)):
            reach = dice.between(1, w - 3)
            d.fill(*((left, row, left + reach - 1, row) if side else (right - reach + 1, row, right, row)))
            side = 1 - side if dice.chance(70) else side
        for x, y in (d.ninja, d.switch, d.exit):
            if d.tiles[(y - 6) // 4, (x - 6) // 4]:
                return False
    _wall_mines(d, left, right, top, bottom, count, both_sides and w >= 3)
    return True


def _wall_mines(d: Draft, left: int, right: int, top: int, bottom: int, count: int, both: bool) -> None:
    """Put mines on the walls of a shaft; beside a mine the other wall is free for two tiles up and down."""
    dice = d.dice
    side = dice.below(2)
    taken = [(y - 6) // 4 for _, y in (d.ninja, d.switch, d.exit)]
    used = []
    for row in dice.sample(range(top + 1, bottom), bottom - top):
        if len(used) >= count:
            break
        mine_side = dice.below(2) if both else side
        if any(abs(row - r) <= 1 for r in taken):
            continue
        if any(row == r or (s != mine_side and abs(row - r) < 4) for r, s in used):
            continue
        if d.tiles[row, left if mine_side else right]:
            continue
        used.append((row, mine_side))
        d.mine(left if mine_side else right, row, 0 if mine_side else 4, 0)


def lined_corridor(d: Draft, length=(5, 14), height=(1, 3), barred=0, alcove=0) -> bool:
    """A low corridor with a row of mines on its ceiling, or on its floor, five quarters of a tile apart.

    In a corridor one tile high the ninja fits below the mines and must not jump. barred: percent of the corridors with
    a locked door. alcove: percent that begin in a pit or a shaft at one end.
    """
    dice = d.dice
    w, h = dice.between(*length), dice.between(*height)
    left, floor = dice.between(0, COLUMNS - w), dice.between(h - 1, ROWS - 1)
    right = left + w - 1
    d.open(left, floor - h + 1, right, floor)
    spots = sorted(dice.sample(range(left, right + 1), 3))
    if dice.chance(50):
        spots[0], spots[2] = left, right
    if len(set(spots)) < 3:
        return False
    d.place_any([(c, floor if dice.chance(60) else dice.between(floor - h + 1, floor)) for c in spots])
    d.ninja = (d.ninja[0], 4 * floor + 6)
    below = h > 1 and dice.chance(60)
    if alcove and dice.chance(alcove):
        at, deep = dice.pick((left, right)), dice.between(1, 3)
        if dice.chance(60) and floor + deep < ROWS:
            d.open(at, floor + 1, at, floor + deep)
            d.ninja = (4 * at + 6, 4 * (floor + deep) + 6)
        elif floor - h + 1 - deep >= 0:
            d.open(at, floor - h + 1 - deep, at, floor - h)
            d.ninja = (4 * at + 6, 4 * (floor - h + 1 - deep) + 6)
    most = (w - 1) * 4 // 5
    count = dice.between(1, min(most, 3 if h == 2 else 4) if below else most)
    start = dice.between(0, 4 * (w - 1) - 5 * (count - 1))
    for k in range(count):
        d.mine(left, floor, start + 5 * k, 4 if below else 4 - 4 * h)
    if not below and w >= 6 and dice.chance(barred):
        ninja, at = (d.ninja[0] - 6) // 4, dice.between(left + 1, right)
        key = dice.between(left, at - 1) if ninja < at else dice.between(at, right)
        for row in range(floor - h + 1, floor + 1):
            d.extras += [(LOCKED_DOOR, 4 * at + 4, 4 * row + 6, 0, 0), (DOOR_SWITCH, 4 * key + 6, 4 * floor + 6, 0, 0)]
    return True


def lined_shaft(d: Draft, width=(1, 3), height=(4, 16), pitch=(3, 4), elbow=0) -> bool:
    """A shaft with mines on its walls every few tiles. elbow: percent of the shafts with a corridor at one end."""
    dice = d.dice
    w, h = dice.between(*width), dice.between(*height)
    side = dice.between(3, 8) if dice.chance(elbow) else 0
    left, top = dice.between(0, COLUMNS - w - side), dice.between(0, ROWS - h)
    right, bottom = left + w - 1, top + h - 1
    d.open(left, top, right, bottom)
    row = dice.pick((top, bottom))
    if side:
        d.open(right + 1, row, right + side, row)
    low, high = (dice.pick((left, right)), bottom), (dice.pick((left, right)), top)
    end = (right + side, row) if side else (dice.pick((left, right)), dice.pick((top, bottom)))
    if w > 1 and not side and dice.chance(40):  # both goals at the top, maybe with mines between them
        d.place((dice.between(left, right), bottom), *dice.sample(((left, top), (right, top)), 2))
        count = dice.below(min(w, 3) + 1)
        start = dice.between(2, 4 * w - 2 - 3 * max(count - 1, 0))
        for k in range(count):
            d.mine(left, top, start + 3 * k, 0)
    else:
        d.place(*dice.sample((low, high, end), 3))
    step, walls = dice.between(*pitch), dice.pick(((0, 1), (0, 1), (0,), (1,)))
    for y in range(top + dice.below(step), bottom + 1, step):
        for wall in walls:
            if not (side and wall and y in (row, row + 1)):
                d.mine(right + 1 if wall else left, y, 0, 0)
    if side and dice.chance(50):
        for c in range(right + 2, right + side + 1, dice.between(1, 3)):
            d.mine(c, row, 2, 0)
    return True


def corridors(d: Draft, segments=(2, 3), run=(3, 8), rise=(2, 5), width=(1, 2), mines=(0, 0), snake=0) -> bool:
    """Horizontal and vertical corridors end to end. snake: percent of the turns that lead back, one over the other."""
    dice = d.dice
    count = dice.between(*mines)
    k = dice.between(*width)
    c, r, direction = 0, 0, 1  # the lower left cell of the crossing that was reached
    rects, stops = [], [(0, 0)]
    vertical = dice.chance(30)
    down = dice.chance(50)
    for _ in range(dice.between(*segments)):
        if vertical:
            if not dice.chance(snake):
                down = dice.chance(50)
            length = dice.between(max(rise[0], k + 1), max(rise[1], k + 1))
            r2 = r + length if down else r - length
            rects.append((c, min(r, r2) - k + 1, c + k - 1, max(r, r2)))
            r = r2
            direction = -direction if dice.chance(snake) else direction
        else:
            length = dice.between(max(run[0], k + 1), max(run[1], k + 1)) * direction
            rects.append((min(c, c + length), r - k + 1, max(c, c + length) + k - 1, r))
            c += length
        stops.append((c, r))
        vertical = not vertical
    left, top = min(q[0] for q in rects), min(q[1] for q in rects)
    w, h = max(q[2] for q in rects) - left + 1, max(q[3] for q in rects) - top + 1
    if w > COLUMNS or h > ROWS:
        return False
    ox, oy = dice.between(0, COLUMNS - w) - left, dice.between(0, ROWS - h) - top
    for x0, y0, x1, y1 in rects:
        d.open(x0 + ox, y0 + oy, x1 + ox, y1 + oy)
    stops = [(x + ox, y + oy) for x, y in stops]
    d.place_any(stops)
    if len({d.ninja, d.switch, d.exit}) < 3:
        x0, y0, x1, y1 = rects[0]
        d.switch = (4 * (dice.between(x0, x1) + ox) + 6, 4 * (y1 + oy) + 6)
    for x0, y0, x1, y1 in dice.sample(rects, len(rects)):
        share = min(count, 1 + (x1 - x0) // 4)
        if share and k >= 2:
            before = len(d.mines)
            if y1 - y0 == k - 1:
                _line_with_mines(d, x0 + ox + k, x1 + ox - k, y1 + oy, k, share)
            elif y1 - y0 > 2 * k:
                _wall_mines(d, x0 + ox, x1 + ox, y0 + oy + k, y1 + oy - k, min(count, 2), False)
            count -= len(d.mines) - before
    return True


def maze(d: Draft, size=(3, 4, 2, 3), passage=(1, 2), wall=(1, 1), loops=(0, 2), mines=(0, 0)) -> bool:
    """A maze. size: least and most columns, least and most rows of its cells."""
    dice = d.dice
    k, t = dice.between(*passage), dice.between(*wall)
    most_x, most_y = (COLUMNS + t) // (k + t), (ROWS + t) // (k + t)
    nx, ny = min(dice.between(size[0], size[1]), most_x), min(dice.between(size[2], size[3]), most_y)
    left = dice.between(0, COLUMNS - (nx * (k + t) - t))
    top = dice.between(0, ROWS - (ny * (k + t) - t))
    links = _passages(dice, nx, ny, loops)
    for a, linked in enumerate(links):
        for b in linked:
            if a < b:
                x0, y0, x1, y1 = a % nx, a // nx, b % nx, b // nx
                d.open(left + x0 * (k + t), top + y0 * (k + t), left + x1 * (k + t) + k - 1, top + y1 * (k + t) + k - 1)

    floored = [cell for cell in range(nx * ny) if cell + nx not in links[cell]]
    start = dice.pick(floored)
    order = _by_distance(links, start)
    goal = dice.pick([c for c in order[len(order) // 2 :] if c in floored] or [order[-1]])
    order = _by_distance(links, goal)
    ends = [c for c in order[len(order) // 3 :] if c != start and c in floored]
    end = dice.pick(ends or [c for c in order[1:] if c != start] or order[1:])
    if len({start, goal, end}) < 3:
        return False

    def spot(cell):
        return left + cell % nx * (k + t) + dice.below(k), top + cell // nx * (k + t) + k - 1

    d.place(spot(start), spot(goal), spot(end))
    if k >= 2:
        still = [c for c in floored if c not in (start, goal, end) and c - nx not in links[c]]
        for cell in dice.sample(still, dice.between(*mines)):
            c, r = left + cell % nx * (k + t), top + cell // nx * (k + t) + k - 1
            if dice.chance(60) or k < 3:
                d.mine(c + k // 2, r, 0 if k % 2 == 0 else 2, 4)
            else:
                d.mine(c + k // 2, r - k + 1, 2, 0)
    return True


def _passages(dice: Dice, nx: int, ny: int, loops) -> list[list[int]]:
    """Neighbours that each cell of a maze of nx x ny is open to: a depth-first search, and some more passages."""
    links = [[] for _ in range(nx * ny)]

    def link(a, b):
        links[a].append(b)
        links[b].append(a)

    def around(cell):
        x, y = cell % nx, cell // nx
        near = [cell - 1] if x else []
        if x + 1 < nx:
            near.append(cell + 1)
        if y:
            near.append(cell - nx)
        if y + 1 < ny:
            near.append(cell + nx)
        return near

    stack = [dice.below(nx * ny)]
    seen = [False] * (nx * ny)
    seen[stack[0]] = True
    while stack:
        free = [n for n in around(stack[-1]) if not seen[n]]
        if not free:
            stack.pop()
            continue
        cell = dice.pick(free)
        seen[cell] = True
        link(stack[-1], cell)
        stack.append(cell)
    for _ in range(dice.between(*loops)):
        a = dice.below(nx * ny)
        b = dice.pick(around(a))
        if b not in links[a]:
            link(a, b)
    return links


def _by_distance(links: list[list[int]], start: int) -> list[int]:
    """All cells that can be reached from `start`, nearest first."""
    order, known = [start], {start}
    for cell in order:
        for n in links[cell]:
            if n not in known:
                known.add(n)
                order.append(n)
    return order


def obstacles(d: Draft, width=(9, 18), height=(5, 9), count=(1, 2), mines=(0, 0)) -> bool:
    """A room with blocks, stairs and low walls on its floor."""
    dice = d.dice
    left, top, right, floor = carve_room(d, width, height)
    tall = min(3, floor - top - 2)
    column = left + dice.between(2, 3)
    tops = {}
    for _ in range(dice.between(*count)):
        if column + 3 > right:
            break
        kind, high = dice.below(5), dice.between(1, tall)
        if kind == 0:  # stairs up, and down again or not
            n = min(dice.between(2, 4), floor - top - 2, (right - 1 - column) // 2)
            heights = [*range(1, n + 1), *([n] * dice.below(2)), *(range(n - 1, 0, -1) if dice.chance(60) else ())]
        elif kind == 1:
            heights = [high] * dice.between(2, 4)
        elif kind == 2:
            heights = [high]
        elif kind == 3:  # a slab to jump over or to crawl under
            if floor - top >= 5 and column + 2 <= right - 2:
                d.fill(column, floor - 2, column + 2, floor - 2)
            column += dice.between(5, 7)
            continue
        else:
            heights = [1, dice.between(1, tall), 1]
        for high in heights:
            if column <= right - 2:
                d.fill(column, floor - high + 1, column, floor)
                tops[column] = high
                column += 1
        column += dice.between(2, 5)
    tallest = max(tops, key=lambda c: (tops[c], c), default=(left + right) // 2)
    middle = dice.pick((tallest, dice.between(left + 2, right - 2)))
    d.place_any([(c, floor - tops.get(c, 0)) for c in (left, middle, right)])
    if d.tiles[floor - tops.get(middle, 0), middle]:
        return False
    floor_mines(d, left, right, floor, dice.between(*mines))
    return True


def gap(
    d: Draft, width=(10, 18), pit=(2, 5), depth=(1, 4), height=(4, 7), mined=0, edge_mines=(0, 0), edge_rows=0
) -> bool:
    """Two banks with a pit between them to jump over; the switch may hang above it.

    mined: percent of the levels with mines in the pit. edge_rows: percent of the banks with a row of mines at the edge.
    """
    dice = d.dice
    w, h, gone, deep = dice.between(*width), dice.between(*height), dice.between(*pit), dice.between(*depth)
    bank = (w - gone) // 2
    if bank < 3 or h + deep > ROWS:
        return False
    left, top = dice.between(0, COLUMNS - w), dice.between(0, ROWS - h - deep)
    right, floor = left + w - 1, top + h - 1
    start = left + bank + dice.between(-min(bank - 3, 2), min(w - gone - bank - 3, 2))
    stop = start + gone - 1
    far_floor = floor + dice.between(-1, 1) if deep >= 2 and h >= 5 else floor
    d.open(left, top, stop, floor)
    d.open(start, top, right, far_floor)
    d.open(start, floor, stop, floor + deep)
    if dice.chance(mined):
        for column in range(start, stop + 2):
            d.mine(column, floor + deep, 0, 4)
    middle = (start + stop) // 2
    hang = dice.between(0, 2)
    ends = ((left, floor), (right, far_floor))
    if dice.chance(55):
        d.place(ends[0], (middle, floor - hang), ends[1])
    elif dice.chance(50):
        d.place(ends[0], ends[1], (start - 2, floor) if bank > 4 else (middle, floor - hang))
    else:
        d.place(ends[0], (stop + 2, far_floor), ends[1])
    count = dice.between(*edge_mines)
    spots = [*range(left + 3, start - 2), *range(stop + 4, right - 1)]
    used = [(x - 6) // 4 for x, _ in (d.ninja, d.switch, d.exit)]
    for column in dice.sample(spots, len(spots)):
        if count and all(abs(column - c) > 1 for c in used):
            d.mine(column, floor if column < start else far_floor, 0, 4)
            used.append(column)
            count -= 1
    if edge_rows:
        for far in (0, 1):
            n, off = dice.between(1, 3), dice.below(2)
            first = stop + 1 + off if far else start - n - off
            free = all(c < first - 1 or c > first + n for c in used)
            if dice.chance(edge_rows) and free and (first + n <= right - 2 if far else first >= left + 4):
                for column in range(first, first + n):
                    d.mine(column, far_floor if far else floor, 2, 4)
    return True


def _profile(d: Draft, columns: int, low: int, high: int, flats: int, steepest: int) -> list[tuple[int, int, str]]:
    """Ground as (height at left, at right, kind) of each column, heights in half tiles above the room's floor."""
    dice = d.dice
    ground, h, wanted = [], dice.between(low, high) // 2 * 2, 0
    while len(ground) < columns:
        if len(ground) < 3 or len(ground) >= columns - 3 or dice.chance(flats):
            ground += [(h, h, "flat")] * (3 if len(ground) < 3 else dice.between(1, 3))
            wanted = dice.between(low, high) - h
            continue
        if wanted == 0:
            wanted = dice.between(low, high) - h
        sign = 1 if wanted > 0 else -1
        step = dice.between(1, steepest)
        step = {1: 1, 2: 2, 3: 4}[step] if h % 2 == 0 else 1
        step = min(step, 4)
        if not low <= h + sign * step <= high:
            wanted = 0
            ground.append((h, h, "flat"))
            continue
        kind = dice.pick(("line", "line", "convex", "concave")) if step == 2 and steepest > 1 else "line"
        ground.append((h, h + sign * step, kind))
        h += sign * step
        wanted = 0 if abs(wanted) <= step else wanted - sign * step
    return ground[:columns]


# Tiles of a ground column above its full cells, by the difference of its heights.
_SLOPE = {
    (2, "line"): (8,),
    (-2, "line"): (9,),
    (2, "convex"): (12,),
    (-2, "convex"): (13,),
    (2, "concave"): (16,),
    (-2, "concave"): (17,),
    (4, "line"): (32, 28),
    (-4, "line"): (33, 29),
}


def _draw_ground(d: Draft, left: int, floor: int, ground) -> None:
    """Fill the columns from `left` on; height 0 is the lower border of row `floor`."""
    for column, (a, b, kind) in enumerate(ground, left):
        full = min(a, b) // 2
        if full > 0:
            d.fill(column, floor - full + 1, column, floor)
        if a == b:
            tiles = (4,) if a % 2 else ()
        elif abs(b - a) == 1:
            tiles = {(1, 0): (20,), (1, 1): (24,), (-1, 1): (21,), (-1, 0): (25,)}[
                b - a, min(a, b) % 2 if b > a else a % 2
            ]
        else:
            tiles = _SLOPE[b - a, kind]
        for k, tile in enumerate(tiles):
            d.tiles[floor - full - k, column] = tile


def hills(d: Draft, width=(14, 26), height=(6, 10), rise=(0, 6), flats=25, steepest=3, mines=(0, 0)) -> bool:
    """Ground of slopes and curves under open air."""
    dice = d.dice
    left, top, right, floor = carve_room(d, width, height)
    high = min(rise[1], 2 * (floor - top - 3))
    ground = _profile(d, right - left + 1, rise[0], high, flats, steepest)
    _draw_ground(d, left, floor, ground)

    def above(column, lift=0):
        a, b, _ = ground[column - left]
        return column, floor - (max(a, b) + 1) // 2 - lift

    peak = max(range(3, len(ground) - 3), key=lambda i: (ground[i][0] + ground[i][1], i)) + left
    middle = dice.pick((peak, dice.between(left + 4, right - 4)))
    d.place_any([above(left + dice.below(2)), above(middle, dice.between(0, 2)), above(right - dice.below(2))])
    if (d.ninja[0] - 6) // 4 not in (left, left + 1, right, right - 1):
        return False
    count = dice.between(*mines)
    used = [(x - 6) // 4 for x, _ in (d.ninja, d.switch, d.exit)]
    for column in dice.sample(range(left + 3, right - 2), right - left):
        if count and all(abs(column - c) > 2 for c in used):
            a, b, _ = ground[column - left]
            d.mine(column, floor, 2 if a == b else 0, 4 - 2 * a)
            used.append(column)
            count -= 1
    return True
