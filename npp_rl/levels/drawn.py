"""Drawn levels: training levels that look more like those of people than the rooms of rooms.py and courses.py do.

A figure (structures.py) becomes tiles. A way is then laid through them from the ninja to the switch and the exit, past
the switches of the doors that bar it, by a fast estimate of where a ninja can get to (climbing.py). All else follows
from that way: mines along surfaces and in lines through the air, gold, pads, blocks and what moves stay away from it,
so that most levels can be won, though with little room to spare.
"""

import numpy as np

from npp_rl.levels import furniture, structures
from npp_rl.levels.canvas import Canvas
from npp_rl.levels.drafts import LAUNCH_PAD, Dice
from npp_rl.levels.maps import MOVING, encode_map
from npp_rl.levels.scene import Scene, lay_way, place_of, start, weighted

_ALL = (
    (5, structures.hall),
    (3, structures.partitions),
    (3, structures.cells),
    (4, structures.tube),
    (3, structures.rings),
    (4, structures.shaft),
    (4, structures.valley),
    (3, structures.cave),
    (4, structures.rooms),
    (1, structures.spiral),
)
# The structures of each category, with weights.
DRAWN = {
    "halls": ((5, structures.hall), (3, structures.partitions), (3, structures.cells)),
    "tubes": ((4, structures.tube), (3, structures.rings), (3, structures.rooms), (1, structures.spiral)),
    "climbs": ((1, structures.shaft),),
    "landscapes": ((4, structures.valley), (3, structures.cave)),
    "symmetric": _ALL,
    "contraptions": _ALL,
    "moving": _ALL,
}
FOLDS = ("mirrored", "mirrored", "mirrored", "turned", "upside down")


def _figure(category: str, dice: Dice) -> tuple[np.ndarray, str]:
    """Tiles of a figure, and its name."""
    c = Canvas()
    folded = category == "symmetric" or dice.chance(15)
    if folded:
        c.fold(dice.pick(FOLDS))
    structure = weighted(dice, DRAWN[category])
    structure(c, dice)
    if dice.chance(25):
        weighted(dice, DRAWN[category])(c, dice)
    return c.tiles(), structure.__name__


def draw(category: str, dice: Dice) -> tuple[bytes, str] | None:
    """Map bytes and title of a drawn level of one of DRAWN_CATEGORIES; None where the draws are no use."""
    tiles, name = _figure(category, dice)
    s = Scene(tiles, dice)
    busy = category == "contraptions" or (category == "moving" and dice.chance(50))
    if dice.chance(70 if busy else 20):
        furniture.platforms(s)
    if dice.chance(45 if busy else 8):
        furniture.bounce_blocks(s)
    if not start(s) or not lay_way(s, dice.pick((1, 1, 2)) if dice.chance(80 if busy else 30) else 0):
        return None
    s.seen = s.first >= 0
    if sum(map(len, s.legs)) < 30:
        return None
    if dice.chance(50 if busy else 12):
        furniture.more_doors(s)
    if dice.chance(50 if busy else 10):
        furniture.pads(s, LAUNCH_PAD, dice.between(1, 5))
    if dice.chance(40 if busy else 8):
        furniture.pads(s, furniture.BOOST_PAD, dice.between(1, 4))
    if dice.chance(90 if category != "moving" else 60):
        furniture.put_mines(s)
    if dice.chance(88):
        furniture.put_gold(s)
    if category == "moving":
        for _ in range(dice.pick((1, 1, 2, 2, 3))):
            weighted(dice, furniture.MOVERS)(s)
        if not any(record[0] in MOVING for record in s.records):
            return None
    return _encode(s, name), name


def _encode(s: Scene, name: str) -> bytes:
    nodes = [(0, s.ninja), *((kind, node) for node, kind in s.mines.items()), (3, s.exit), (4, s.switch)]
    records = [(kind, *place_of(node), 0, 0) for kind, node in nodes]
    return encode_map(s.tiles, np.array(records + s.records, np.uint8), name)
