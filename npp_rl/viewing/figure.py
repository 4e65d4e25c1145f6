"""The ninja's figure: poses, and which of them shows a state."""

from npp_rl.simulator.layout import DEAD, DYING, RUNNING, WALL_SLIDING, WON
from npp_rl.viewing.shapes import DEADLY, INK, MOVERS, OUTCOMES, PAPER, Pen

# Limbs and head of each pose, px from the ninja's place, looking right. Its circle has radius 10: feet are at 9.4.
_STAND = [
    [(-0.5, -3), (0.5, 2.5)],
    [(0.5, 2.5), (-3.2, 5.5), (-4, 9.4)],
    [(0.5, 2.5), (3.6, 5.2), (3.8, 9.4)],
    [(-0.4, -2), (-4.6, -0.6), (-5.4, 3)],
    [(-0.4, -2), (3.6, 0.4), (6.4, -1.6)],
]
_STRIDE = [
    [(1.2, -3), (-0.4, 2.5)],
    [(-0.4, 2.5), (3.8, 4.6), (4.6, 9.2)],
    [(-0.4, 2.5), (-3.4, 5.4), (-7, 7.4)],
    [(1, -2), (-3.4, -1), (-5.4, 2)],
    [(1, -2), (3.4, 1.4), (6.6, 0.4)],
]
_PASS = [
    [(1.2, -3.4), (0, 2.2)],
    [(0, 2.2), (1.8, 5.6), (0.2, 9.4)],
    [(0, 2.2), (3.4, 4.4), (-0.6, 7)],
    [(1, -2.4), (-1.8, 0.6), (-0.4, 3)],
    [(1, -2.4), (2.4, 0.8), (4.8, 1.6)],
]
_AIR = [
    [(0.4, -3), (0, 2.5)],
    [(0, 2.5), (4, 3.6), (3, 7.8)],
    [(0, 2.5), (-2, 5.8), (-5.2, 7.8)],
    [(0.2, -2.2), (-4.4, -3), (-6.6, -5.6)],
    [(0.2, -2.2), (4, -3.6), (6.4, -6.6)],
]
_WALL = [
    [(1, -3), (-0.6, 2.5)],
    [(-0.6, 2.5), (4.2, 3), (8, 6)],
    [(-0.6, 2.5), (3, 6), (7.4, 9)],
    [(1, -2), (4.6, -3.4), (8.6, -6)],
    [(1, -2), (4.4, 0), (8.4, -1)],
]
_DEAD = [
    [(-1, 3), (0.5, 5.5)],
    [(0.5, 5.5), (4.5, 4.5), (8.5, 8.4)],
    [(0.5, 5.5), (3.5, 8), (7.5, 9)],
    [(-0.8, 3.5), (-4.4, 6.6), (-8, 5)],
    [(-0.8, 3.5), (-1.5, 8), (-5.5, 9.2)],
]
_CHEER = [
    [(0, -3), (0, 2.5)],
    [(0, 2.5), (-3.4, 5.5), (-4, 9.4)],
    [(0, 2.5), (3.4, 5.5), (4, 9.4)],
    [(0, -2), (-4, -4.4), (-5, -9)],
    [(0, -2), (4, -4.4), (5, -9)],
]
_POSES = {
    "stand": (_STAND, (0.2, -6.2), INK),
    "stride": (_STRIDE, (2.2, -6.2), INK),
    "pass": (_PASS, (2, -6.6), INK),
    "air": (_AIR, (0.8, -6.2), INK),
    "wall": (_WALL, (1.2, -6.2), INK),
    "dead": (_DEAD, (-3.2, 0.4), DEADLY),
    "won": (_CHEER, (0, -6.2), OUTCOMES["won"]),
}
STRIDE = 14.0  # px of way between two changes of the legs


def draw_ninja(pen: Pen, x: float, y: float, pose: str = "stand", facing: int = 1) -> None:
    """Draw a figure within the ninja's circle, with a headband behind it; facing 1 is right, -1 left."""
    limbs, (head_x, head_y), ink = _POSES[pose]
    for width, color in ((4, PAPER), (2.3, ink)):
        for limb in limbs:
            pen.line([(x + facing * a, y + b) for a, b in limb], width, color)
        pen.disc(x + facing * head_x, y + head_y, 2.9 + width / 4, color)
    band = [(head_x + 2.8, head_y - 0.4), (head_x - 2.8, head_y - 0.4), (head_x - 6.8, head_y + 1.2)]
    pen.line([(x + facing * a, y + b) for a, b in band], 1.4, DEADLY if ink == INK else INK)


def look_of_ninja(ninja) -> tuple:
    """Piece of the ninja from its NINJA record: its pose follows from its state, its facing from input or movement."""
    state, u = int(ninja["state"]), float(ninja["u"])
    steered = int(ninja["h"]) or (1 if u >= 0.0 else -1)
    x, y = float(ninja["x"]), float(ninja["y"])
    pose, facing = "stand", steered
    if state in (DEAD, DYING):
        pose = "dead"
    elif state == WON:
        pose = "won"
    elif state == WALL_SLIDING:
        pose, facing = "wall", -1 if ninja["wn"] > 0 else 1
    elif ninja["air"]:
        pose = "air"
    elif state == RUNNING:
        pose = "stride" if x % (2 * STRIDE) < STRIDE else "pass"
    return (MOVERS, draw_ninja, x, y, pose, facing)
