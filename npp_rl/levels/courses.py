"""Larger rooms of the procedural levels: mine fields, platforms, islands, caves, chambers, doors (see rooms.py)."""

import numpy as np

from npp_rl.levels.drafts import (
    COLUMNS,
    DOOR_SWITCH,
    LAUNCH_PAD,
    LOCKED_DOOR,
    ONE_WAY,
    ROWS,
    TRAP_DOOR,
    TRAP_SWITCH,
    UP,
    Draft,
    carve_room,
    floor_mines,
)


def mine_field(
    d: Draft, width=(14, 28), height=(3, 6), groups=(2, 4), longest=2, floating=(0, 3), crowded=False
) -> bool:
    """A long room with rows of mines on the floor and single ones in the air.

    crowded: the single ones may hang low anywhere.
    """
    dice = d.dice
    left, top, right, floor = carve_room(d, width, height)
    h = floor - top + 1
    middle = dice.between(left + 4, right - 4)
    order = [(left, floor), (middle, floor - (dice.between(0, 2) if h >= 5 else 0)), (right, floor)]
    d.place_any(order)
    taken = [(x - 6) // 4 for x, y in (d.ninja, d.switch, d.exit) if y == 4 * floor + 6]
    column, made, wanted = left + dice.between(3, 4), 0, dice.between(*groups)
    while column < right - 2 and made < wanted:
        n = dice.between(1, min(longest, 2 if h <= 3 else longest))
        if all(c < column - 2 or c > column + n for c in taken):
            for k in range(n):
                d.mine(column + k, floor, 0, 4)
            made += 1
            column += n + dice.between(3, 5)
        else:
            column += 1
    on_floor = [x for _, x, _ in d.mines]
    if h >= 4:
        spots = [(c, r) for c in range(left + 1, right + 1) for r in range(top, floor - 1)]
        used = []
        count = dice.between(*floating)
        for c, r in dice.sample(spots, 12 * count):
            if len(used) >= count:
                break
            x, y = 4 * c + 4, 4 * r + 4
            if crowded:
                low, apart = floor - r > 4 and dice.chance(60), 7
            else:
                low, apart = floor - r < 4 and any(abs(x - m) < 14 for m in on_floor), 14  # leave room to jump
            near = any(abs(x - u) + abs(y - v) < apart for u, v in used)
            near |= any(abs(x - u) < 10 and abs(y - v) < 10 for u, v in (d.ninja, d.switch, d.exit))
            if not low and not near:
                used.append((x, y))
                d.mine(c, r, 0, 0)
    return bool(d.mines)


def platforms(d: Draft, width=(18, 30), height=(9, 14), count=(3, 4), wide=(2, 4), gaps=(2, 4), mined=100) -> bool:
    """Platforms in the air over a floor of mines. mined: percent of the levels whose floor is deadly."""
    dice = d.dice
    left, top, right, floor = carve_room(d, width, height)
    column, row = left + dice.between(0, 1), dice.between(top + 5, floor - 2)
    spots = []
    for _ in range(dice.between(*count)):
        w = dice.between(*wide)
        if column + w - 1 > right:
            break
        d.fill(column, row, column + w - 1, row + (1 if dice.chance(20) and row < floor - 1 else 0))
        spots.append((column + dice.below(w), row - 1))
        lift = dice.between(-2, 2)
        column += w + dice.between(gaps[0], gaps[1] - (lift > 1))
        row = min(max(row - lift, top + 4), floor - 2)
    if len(spots) < 3:
        return False
    if dice.chance(60):
        d.place(spots[0], spots[1 + dice.below(len(spots) - 2)], spots[-1])
    else:
        d.place_any(spots)
    if dice.chance(mined):
        for c in range(left, right + 2):
            d.mine(c, floor, 0, 4)
    return True


def stepping_stones(d: Draft, width=(18, 36), height=(10, 19), count=(3, 3)) -> bool:
    """Small blocks in a hall over a floor of mines, as far apart as a jump reaches that is hardly run up to."""
    dice = d.dice
    left, top, right, floor = carve_room(d, width, height)
    column, row = left + dice.between(0, 3), dice.between(top + 4, floor - 4)
    spots = []
    for _ in range(dice.between(*count)):
        w = dice.between(1, 2)
        if column + w - 1 > right:
            return False
        d.fill(column, row, column + w - 1, row)
        if dice.chance(50):
            d.tiles[row, column : column + w] = 2  # half as thick
        spots.append((column + dice.below(w), row - 1))
        drop = dice.between(-2, 4)
        column += w + dice.between(2, 4 + (drop >= 0) + (drop >= 2))
        row = min(max(row + drop, top + 4), floor - 4)
    d.place(spots[0], spots[len(spots) // 2], spots[-1])
    for x in range(4 * left, 4 * right + 5, dice.pick((4, 6))):
        d.mine(0, floor, x, 4)
    return True


def rubble(d: Draft, width=(20, 38), height=(10, 18), pitch=(5, 7), share=75) -> bool:
    """A hall full of floating lumps of tiles of all shapes. share: percent of the places that have a lump."""
    dice = d.dice
    left, top, right, floor = carve_room(d, width, height)
    wide, high = dice.between(*pitch), dice.between(*pitch)
    spots = [(left, floor), (right, floor)]
    for row in range(top + 2, floor - 1, high):
        for column in range(left + 1, right - 2, wide):
            if not dice.chance(share):
                continue
            w, h = dice.between(1, min(4, wide - 2)), dice.between(1, min(4, high - 2, floor - 1 - row))
            for cell in range(w * h):
                if dice.chance(80):
                    d.tiles[row + cell // w, column + cell % w] = 1 + (dice.below(33) if dice.chance(75) else 0)
            spots.append((column + dice.below(w), row - 1))
    if len(spots) < 6:
        return False
    d.place_any(dice.sample(spots, 3))
    return not any(d.tiles[(y - 6) // 4, (x - 6) // 4] for x, y in (d.ninja, d.switch, d.exit))


def islands(d: Draft, width=(16, 28), height=(9, 13), pitch=(5, 6), missing=25, mines=(0, 0)) -> bool:
    """Blocks that float in staggered rows, three tiles apart."""
    dice = d.dice
    left, top, right, floor = carve_room(d, width, height)
    step, spots, stagger = dice.between(*pitch), [(left, floor), (right, floor)], dice.below(2)
    for row in range(floor - 2, top + 2, -3):
        first = left + 1 + (step // 2 if stagger else 0)
        stagger = 1 - stagger
        for column in range(first, right - 1, step):
            w = dice.between(2, min(3, step - 2))
            if column + w > right or dice.chance(missing):
                continue
            d.fill(column, row, column + w - 1, row)
            if dice.chance(30):
                d.tiles[row, column : column + w] = 2  # half as thick
            spots.append((column + dice.below(w), row - 1))
    if len(spots) < 5:
        return False
    chosen = dice.sample(spots, 3)
    chosen[0] = spots[dice.below(2)] if dice.chance(60) else chosen[0]
    high = max(range(2, len(spots)), key=lambda i: (-spots[i][1], i))
    chosen[1] = spots[high] if dice.chance(40) else chosen[1]
    if len(set(chosen)) < 3:
        return False
    d.place(*chosen)
    floor_mines(d, left, right, floor, dice.between(*mines))
    for column, row in dice.sample(spots[2:], dice.between(*mines) // 2):
        if (column, row) not in chosen:
            d.mine(column, row, 2, 4)
    return True


def ladder(d: Draft, width=(4, 9), height=(9, 18), mines=(0, 2)) -> bool:
    """A tall room whose floors are one-way platforms: jumped through from below, stood on from above."""
    dice = d.dice
    left, top, right, floor = carve_room(d, width, height)
    rows = []
    row = floor - dice.between(1, 2)
    while row > top + 1:
        w = dice.between(2, min(4, right - left))
        first = dice.between(left, right - w + 1)
        for column in range(first, first + w):
            d.extras.append((ONE_WAY, 4 * column + 6, 4 * row + 4, UP, 0))
        rows.append((first + dice.below(w), row - 1))
        row -= dice.between(2, 3)
    if len(rows) < 2:
        return False
    d.place_any([(left, floor), rows[len(rows) // 2 - 1], rows[-1]])
    count = dice.between(*mines)
    for column, row in dice.sample(rows, len(rows)):
        if count and (4 * column + 6, 4 * row + 6) not in (d.ninja, d.switch, d.exit):
            wall = dice.below(2)
            d.mine(right if wall else left, row, 4 if wall else 0, 0)
            count -= 1
    return True


def slalom(d: Draft, width=(12, 24), height=(4, 8), mines=(0, 0)) -> bool:
    """A room with walls in the way, from the floor and from the ceiling in turn."""
    dice = d.dice
    left, top, right, floor = carve_room(d, width, height)
    column, hanging = left + dice.between(3, 4), dice.below(2)
    spots = [(left, floor)]
    while column < right - 2:
        pass_by = dice.between(1, 2)
        if hanging:
            d.fill(column, top, column, floor - pass_by)
        else:
            d.fill(column, top + 1 + pass_by, column, floor)
        spots.append((column + 2, floor))
        column += dice.between(4, 6)
        hanging = 1 - hanging if dice.chance(80) else hanging
    if len(spots) < 3:
        return False
    spots[-1] = (right, floor)
    d.place_any(spots)
    floor_mines(d, left, right, floor, dice.between(*mines))
    return True


def launch(d: Draft, width=(10, 18), height=(14, 20), mines=(0, 0)) -> bool:
    """A tall room with a launch pad beside a high bank, which can also be climbed."""
    dice = d.dice
    left, _, right, floor = carve_room(d, width, height)
    bank, high = right - dice.between(3, 5), dice.between(5, 8)
    d.fill(bank, floor - high + 1, right, floor)
    pad = bank - dice.between(2, 3)
    d.extras.append((LAUNCH_PAD, 4 * pad + 6, 4 * floor + 8, UP, 0))
    above = floor - high
    order = [(left, floor), (dice.between(left + 2, pad - 2), floor), (right, above)]
    if dice.chance(40):
        order[1] = (bank, above)
    d.place(*(order if dice.chance(70) else [order[0], order[2], order[1]]))
    floor_mines(d, left, bank - 1, floor, dice.between(*mines))
    return all(abs(x - 4 * pad - 4) > 4 for _, x, _ in d.mines)


def cave(d: Draft, width=(16, 30), height=(8, 15), rock=(36, 42), mines=(0, 0)) -> bool:
    """A natural cave: random cells, smoothed by the majority of their neighbours, of which one large part is kept."""
    dice = d.dice
    w, h = dice.between(*width), dice.between(*height)
    left, top = dice.between(0, COLUMNS - w), dice.between(0, ROWS - h)
    solid = np.ones((h + 2, w + 2), np.int64)
    solid[1:-1, 1:-1] = (dice.array(h * w, 100) < dice.between(*rock)).reshape(h, w)
    for _ in range(2):
        rows = solid[:-2] + solid[1:-1] + solid[2:]
        solid[1:-1, 1:-1] = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] >= 5
    step, open_cells = w + 2, solid.ravel().tolist()
    first = dice.below(len(open_cells))
    best = []
    for start in [*range(first, len(open_cells)), *range(first)]:
        if open_cells[start]:
            continue
        open_cells[start] = 1
        part = [start]
        for cell in part:
            for n in (cell - 1, cell + 1, cell - step, cell + step):
                if not open_cells[n]:
                    open_cells[n] = 1
                    part.append(n)
        if len(part) > len(best):
            best = part
        if 2 * len(best) > w * h:
            break
    cells = {(left + n % step - 1, top + n // step - 1) for n in best}
    for column, row in cells:
        d.tiles[row, column] = 0
    spots = sorted((c, r) for c, r in cells if (c, r + 1) not in cells)
    if len(spots) < 12:
        return False
    third = len(spots) // 3
    three = [dice.pick(spots[:third]), dice.pick(spots[third:-third]), dice.pick(spots[-third:])]
    d.place(*dice.pick((three, three, [three[0], three[2], three[1]], [three[1], three[0], three[2]])))
    d.softened = 85
    for column, row in dice.sample(spots, dice.between(*mines)):
        if (column - 1, row) in spots and all(abs(column - c) > 2 or abs(row - r) > 2 for c, r in three):
            d.mine(column, row, 0, 4)
    return True


def _link_beside(d: Draft, a, b) -> bool:
    """Open a way from room a to room b on its right: a corridor, or two with a shaft between them."""
    dice = d.dice
    high = dice.between(2, 3)
    low, lowest = max(a[1], b[1]) + 1, min(a[3], b[3])
    if low <= lowest:
        row = lowest if dice.chance(60) else dice.between(low, lowest)
        d.open(a[2], max(row - high + 1, low - 1), b[0], row)
        return True
    if b[0] - a[2] < 4:
        return False
    column = dice.between(a[2] + 1, b[0] - 3)
    d.open(a[2], a[3] - 1, column + 1, a[3])
    d.open(column, min(a[3], b[3]) - 1, column + 1, max(a[3], b[3]))
    d.open(column, b[3] - 1, b[0], b[3])
    return True


def _link_below(d: Draft, a, b) -> bool:
    """Open a shaft from room a down to room b, with a wall or a ledge to climb from."""
    dice = d.dice
    low, high = max(a[0], b[0]), min(a[2], b[2]) - 1
    if low > high:
        return False
    if (low == b[0] and dice.chance(60)) or (high != b[2] - 1 and low == b[0]):
        column = low
    elif high == b[2] - 1:
        column = high
    else:
        column = dice.between(low, high)
        if b[3] - b[1] >= 3:  # too high for a jump from the floor
            ledge = column + 2 if column + 3 <= b[2] else column - 2
            d.fill(ledge, b[1] + 2, ledge + 1, b[1] + 2)
    d.open(column, a[3] + 1, column + 1, b[1] - 1)
    return True


def _furnish(d: Draft, room) -> None:
    """Put a block, a bump, a ledge, or nothing into a room."""
    dice = d.dice
    left, top, right, floor = room
    w, h = right - left + 1, floor - top + 1
    kind = dice.below(7)
    if w >= 6 and kind == 0:
        c = dice.between(left + 2, right - 2)
        d.fill(c, floor - dice.below(min(2, h - 2)), c, floor)
    elif w >= 7 and kind == 1:
        c = dice.between(left + 2, right - 3)
        pair = dice.pick(((8, 9), (12, 13), (16, 17), (8, 13)))
        d.tiles[floor, c : c + 2] = pair
    elif w >= 9 and kind == 2:
        c = dice.between(left + 2, right - 5)
        d.tiles[floor, c : c + 4] = (20, 24, 25, 21)
    elif w >= 6 and h >= 6 and kind == 3:
        c = dice.between(left + 2, right - 3)
        d.fill(c, floor - 2, c + 1, floor - 2)
    elif w >= 6 and kind == 4:
        c = dice.between(left + 2, right - 2)
        d.tiles[floor, c] = 4
    elif w >= 7 and h >= 5 and kind == 5:
        side = dice.below(2)
        row = floor - 2
        d.fill(*((left, row, left + 1, row) if side else (right - 1, row, right, row)))


def chambers(d: Draft, rooms=(2, 3), grid=(3, 2), height=(3, 6), furnished=60, mines=(0, 0), branching=0) -> bool:
    """Rooms on a grid of columns and rows, joined by corridors and shafts. branching: percent of side rooms."""
    dice = d.dice
    nx, ny = grid
    cw, ch = COLUMNS // nx, ROWS // ny
    cells = [(dice.below(nx), dice.below(ny))]
    rects = {}
    joints = []
    for _ in range(dice.between(*rooms) - 1):
        order = dice.sample(cells, len(cells)) if dice.chance(branching) else [cells[-1], *reversed(cells[:-1])]
        for x, y in order:
            near = [(x + 1, y), (x - 1, y), (x, y + 1), (x, y - 1)]
            near = [c for c in near if 0 <= c[0] < nx and 0 <= c[1] < ny and c not in cells]
            if near:
                cell = dice.pick(near)
                joints.append(((x, y), cell))
                cells.append(cell)
                break
    if len(cells) < 2:
        return False
    for x, y in cells:
        w, h = dice.between(min(6, cw - 3), cw - 3), dice.between(height[0], min(height[1], ch - 2))
        left, top = x * cw + dice.between(0, cw - w - 2), y * ch + dice.between(0, ch - h - 1)
        rects[x, y] = (left, top, left + w - 1, top + h - 1)
        d.open(*rects[x, y])
        if dice.chance(furnished):
            _furnish(d, rects[x, y])
    for a, b in joints:
        a, b = min(a, b), max(a, b)
        if not (_link_below if a[0] == b[0] else _link_beside)(d, rects[a], rects[b]):
            return False

    def spot(cell):
        left, _, right, floor = rects[cell]
        for column in dice.sample(range(left, right + 1), right - left + 1):
            if d.tiles[floor, column] == 0 and (floor + 1 == ROWS or d.tiles[floor + 1, column]):
                return column, floor
        return None

    three = [cells[0], cells[len(cells) // 2], cells[-1]]
    if len(cells) == 2:
        three = [cells[0], cells[1], dice.pick(cells)]
    if branching:
        three = [cells[0], *dice.sample(cells[1:], 2)] if len(cells) > 2 else three
    spots = [spot(cell) for cell in dice.pick((three, three, [three[0], three[2], three[1]], three[::-1]))]
    if None in spots or len(set(spots)) < 3:
        return False
    d.place(*spots)
    count = dice.between(*mines)
    for cell in dice.sample(cells, len(cells)):
        if count > 0:
            left, _, right, floor = rects[cell]
            before = len(d.mines)
            floor_mines(d, left + 1, right - 1, floor, min(count, 1 + (right - left) // 5))
            count -= len(d.mines) - before
    return True


def vaults(d: Draft, rooms=(2, 3), width=(6, 10), height=(4, 7), mines=(0, 0)) -> bool:
    """Rooms in a row behind locked doors. Each door's switch is in a room before it, on the floor or on a ledge.

    Some doors are trap doors instead, which shut behind the ninja.
    """
    dice = d.dice
    n, h = dice.between(*rooms), dice.between(*height)
    widths = [dice.between(*width) for _ in range(n)]
    total = sum(widths) + n - 1
    if total > COLUMNS:
        return False
    left, top = dice.between(0, COLUMNS - total), dice.between(0, ROWS - h)
    floor = top + h - 1
    spots, rects = [], []
    column, beyond = left, 0
    for i, w in enumerate(widths):
        room = (column, top + dice.between(0, h - 4), column + w - 1, floor)
        d.open(*room)
        rects.append(room)
        ledge = None
        if w >= 6 and floor - room[1] >= 4 and dice.chance(60):
            c = dice.between(column + 2, column + w - 4)
            d.fill(c, floor - 2, c + 1, floor - 2)
            ledge = (c + dice.below(2), floor - 3)
        free = dice.sample(range(column, column + w - 1), w - 1)
        spots.append([(c, floor) for c in free] + ([ledge] if ledge else []))
        if i + 1 < n:
            wall, tall = column + w, dice.between(1, 2)
            d.open(wall, floor - tall + 1, wall, floor)
            if dice.chance(20) and w >= 6:  # a trap door: all that is needed later lies beyond it
                beyond = i + 1
                records = ((TRAP_DOOR, 4 * wall + 8), (TRAP_SWITCH, 4 * wall + 18, 4 * floor + 6))
            else:
                key = spots[i].pop() if dice.chance(70) else spots[i].pop(0)
                records = ((LOCKED_DOOR, 4 * wall + 4), (DOOR_SWITCH, 4 * key[0] + 6, 4 * key[1] + 6))
            for row in range(floor - tall + 1, floor + 1):
                d.extras += [(*records[0], 4 * row + 6, 0, 0), (*records[1], 0, 0)]
        column += w + 1
    last = spots[-1]
    goal = last.pop()
    other = last.pop(0) if dice.chance(50) else spots[dice.between(beyond, n - 1)].pop(0)
    start = spots[0].pop(0)
    d.place(start, *((goal, other) if dice.chance(50) else (other, goal)))
    count = dice.between(*mines)
    keys = {(x - 6) // 4 for t, x, _, _, _ in d.extras if t in (DOOR_SWITCH, TRAP_SWITCH)}
    for room in dice.sample(rects, n):
        c = dice.between(room[0] + 2, room[2] - 2)
        if count and not keys & {c - 1, c}:
            floor_mines(d, room[0], room[2], floor, 1)
            count -= 1
    return True
