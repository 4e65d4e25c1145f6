"""Goals and the distance fields to them, as the environment's `reachability` shows them."""

import numpy as np
import pytest
from free_space import way_length
from hand_made import CORRIDOR, ROW, corridor, ground, here, level, middle

from npp_rl.environment.env import NppEnv
from npp_rl.environment.goals import AVOID_ALL, AVOID_DEADLY, AVOID_NONE
from npp_rl.levels.fields import TOUCH_EXIT, TOUCH_SWITCH

NONE, LEFT, RIGHT, JUMP, JUMP_LEFT, JUMP_RIGHT = range(6)
# Along a straight line of nodes the way to a goal ends 15.6 px before a switch, 21.6 px before an exit door and 14.4 px
# before a door's switch: where the circles touch (16, 22, 15 px), in units of 1.2 px from a node at 18, 24, 18 px.
TO_SWITCH, TO_EXIT, TO_DOOR_SWITCH = 15.6, 21.6, 14.4
BESIDE = 2.0  # px: the ninja on the floor is that far from the line of nodes, and has to get there first


class Game:
    """One environment on one level, and its last observation read back into px."""

    def __init__(self, made, **arguments):
        self.env = NppEnv(levels=[made], observations=("game_state", "reachability"), **arguments)
        self.read(self.env.reset(options={"level": 0})[0])

    def read(self, obs):
        self.obs = obs["reachability"]
        assert np.isfinite(self.obs).all()
        self.way, self.remaining = 500.0 * self.obs[3], 500.0 * self.obs[5]
        self.kind = ["switch", "exit", "door"][int(np.argmax(self.obs[:3]))] if self.obs[:3].any() else None
        self.offset = 250.0 * self.obs[6:8]
        self.known = self.obs[33] == 1.0
        ninja = self.env._envs._state.ninja[0]
        self.x, self.y = ninja["x"], ninja["y"]

    def step(self, action):
        obs, self.reward, self.terminated, self.truncated, self.info = self.env.step(action)
        self.read(obs)
        return self.terminated or self.truncated

    def until(self, action, condition, most=200):
        """Steps until the condition holds; it must do so before the episode ends."""
        for _ in range(most):
            assert not self.step(action)
            if condition():
                return
        raise AssertionError("the condition never held")

    @property
    def goal(self):
        return self.env._envs._goals[0]


def test_switch_then_exit():
    game = Game(corridor(spawn=5, switch=12, door=20))
    assert game.kind == "switch" and game.known
    assert game.way == pytest.approx(7 * 24 - TO_SWITCH, abs=1e-3)
    assert game.remaining == pytest.approx(8 * 24 - TO_EXIT, abs=1e-3)
    assert game.offset == pytest.approx([7 * 24, 0], abs=1e-3)
    assert game.obs[4] == pytest.approx(np.sqrt(game.way / 500), rel=1e-6)
    # From the switch 48 and 144 px on, in units of these distances.
    assert game.obs[28:32] == pytest.approx([1, 0, 1, 0], abs=1e-6)
    game.until(RIGHT, lambda: game.kind == "exit")
    assert game.remaining == 0.0 and game.known
    assert not game.obs[28:32].any()
    assert game.offset == pytest.approx([here(20)[0] - game.x, here(20)[1] - game.y], abs=1e-2)
    assert game.way == pytest.approx(here(20)[0] - game.x - TO_EXIT, abs=BESIDE)
    assert game.goal["field"] == 1  # shared by all games on the level
    while not game.step(RIGHT):
        pass
    assert game.info["outcome"]["success"]


def test_steps_without_progress():
    game = Game(corridor(spawn=5, switch=12, door=20))
    assert game.obs[66:68].tolist() == [0, 0]
    for k in range(1, 13):
        game.step(NONE)
        assert game.obs[66:68] == pytest.approx([min(k / 8, 1), k / 64])
    while game.obs[66] > 0:  # until it has moved 2 px
        game.step(RIGHT)
    for _ in range(6):
        game.step(RIGHT)
        assert game.obs[66] == 0
    for _ in range(12):  # away, and some of it back
        game.step(LEFT)
    way = game.way
    game.until(RIGHT, lambda: game.way < way)
    assert game.obs[66] > 0.5
    game.until(RIGHT, lambda: game.kind == "exit")
    assert game.obs[66:68].tolist() == [0, 0]


def test_the_way_falls_step_by_step_when_it_is_walked():
    game = Game(corridor(spawn=5, switch=30, door=38))
    for _ in range(4):
        game.step(NONE)  # it falls to the floor
    for _ in range(40):
        before = game.way
        game.step(RIGHT)
        assert game.way < before
        assert game.way == pytest.approx(here(30)[0] - game.x - TO_SWITCH, abs=BESIDE)


def test_a_locked_door_that_bars_the_way_comes_first():
    # From left to right: the door's switch, spawn, the door, exit switch, exit door.
    made = corridor(spawn=10, switch=30, door=36, locked=[((504, 300), 0, here(4))])
    game = Game(made)
    assert game.kind == "door" and game.known
    assert game.way == pytest.approx(6 * 24 - TO_DOOR_SWITCH, abs=1e-3)
    assert game.remaining == pytest.approx(26 * 24 - TO_SWITCH + 6 * 24 - TO_EXIT, abs=1e-3)
    assert game.obs[28:32] == pytest.approx([1, 0, 1, 0], abs=1e-6)  # back to the right
    assert game.obs[8:10] == pytest.approx([-1, 0], abs=1e-6)
    whole = game.way + game.remaining
    game.until(LEFT, lambda: game.kind == "switch")
    assert game.goal["field"] == 2  # its own
    assert game.way == pytest.approx(here(30)[0] - game.x - TO_SWITCH, abs=BESIDE)
    assert game.way + game.remaining < whole
    game.until(RIGHT, lambda: game.kind == "exit")
    assert game.goal["field"] == 2  # with the door open the level's second field does not count
    while not game.step(RIGHT):
        pass
    assert game.info["outcome"]["success"]


def test_doors_behind_doors():
    # The switch of the right door lies behind the left one, whose own is open to the ninja.
    doors = [((600, 300), 0, here(2)), ((120, 300), 0, here(15))]
    game = Game(corridor(spawn=10, switch=30, door=36, locked=doors))
    assert game.kind == "door"
    assert game.way == pytest.approx(5 * 24 - TO_DOOR_SWITCH, abs=1e-3)
    ways = 13 * 24 - TO_DOOR_SWITCH, 28 * 24 - TO_SWITCH, 6 * 24 - TO_EXIT
    assert game.remaining == pytest.approx(sum(ways), abs=1e-3)
    game.until(RIGHT, lambda: game.offset[0] < 0)
    assert game.kind == "door"
    game.until(LEFT, lambda: game.kind == "switch")


def test_a_locked_door_beside_the_way_does_not_matter():
    game = Game(corridor(spawn=10, switch=14, door=18, locked=[((504, 300), 0, here(30))]))
    assert game.kind == "switch" and game.goal["field"] == 0


def test_passing_a_regular_door_changes_no_goal():
    game = Game(corridor(spawn=5, switch=14, door=20, others=[(5, (240, 300), 0, 0)]))
    opened = False
    while game.kind == "switch":
        assert game.goal["field"] == 0
        assert not game.step(RIGHT)
        opened |= not game.env._envs._state.closed[0, 0]
    assert opened
    assert game.kind == "exit" and game.goal["field"] == 1


def test_of_several_exits_the_nearest_pair_counts():
    # The second pair's switch is farther, its whole way shorter; the first switch lies on the way to it.
    made = level(CORRIDOR, here(5), [(here(40), here(10)), (here(16), here(13))])
    game = Game(made)
    assert game.kind == "switch" and game.offset[0] == pytest.approx(8 * 24, abs=1e-3)
    assert game.remaining == pytest.approx(3 * 24 - TO_EXIT, abs=1e-3)
    game.until(RIGHT, lambda: game.reward > 0.5)
    assert game.x < here(11)[0] and game.kind == "switch"
    assert game.offset[0] == pytest.approx(here(13)[0] - game.x, abs=1e-2)
    assert game.obs[32] > 0.9
    game.until(RIGHT, lambda: game.kind == "exit")
    assert game.offset[0] == pytest.approx(here(16)[0] - game.x, abs=1e-2)


RING = ground((5, 12, 30, 12), (5, 8, 30, 8), (5, 8, 5, 12), (30, 8, 30, 12))


def around(mines, start, switch, door):
    """Way to a switch and from it to an exit door in the ring, clear of mines."""
    to_switch = way_length(RING, mines, [], start, switch, TOUCH_SWITCH)
    return to_switch, way_length(RING, mines, [], switch, door, TOUCH_EXIT)


def test_mines_are_kept_clear_of_where_there_is_another_way():
    exits = [(here(24), here(20))]
    game = Game(level(RING, here(10), exits, toggle_mines=[here(12)]))
    assert game.goal["avoid"] == AVOID_ALL
    way, remaining = around([here(12)], here(10), here(20), here(24))
    assert 1000 < way < 1200  # round the ring
    assert (game.way, game.remaining) == pytest.approx((way, remaining), abs=1e-3)


def test_a_toggle_mine_that_turns_deadly_closes_the_way():
    exits = [(here(24), here(20))]
    game = Game(level(RING, here(10), exits, toggle_mines=[here(12), middle(20, 8)]))
    assert game.goal["avoid"] == AVOID_DEADLY
    assert game.way == pytest.approx(10 * 24 - TO_SWITCH, abs=1e-3)
    first = game.obs[32]
    assert first == 1.0
    states = game.env._envs._state.state[0]
    game.until(RIGHT, lambda: 2 in states)
    game.until(LEFT, lambda: 0 in states[2:])
    assert game.goal["avoid"] == AVOID_DEADLY and game.goal["field"] == 2
    way, _ = around([here(12)], (game.x, game.y), here(20), here(24))
    assert way > 1000
    assert game.way == pytest.approx(way, abs=1e-2)


def test_a_deadly_mine_on_the_only_way_is_no_obstacle_to_the_field():
    game = Game(corridor(spawn=5, switch=12, door=20, mines=[here(16)]))
    assert game.goal["avoid"] == AVOID_NONE and game.known
    assert game.way == pytest.approx(7 * 24 - TO_SWITCH, abs=1e-3)
    assert game.remaining == pytest.approx(8 * 24 - TO_EXIT, abs=1e-3)


def test_a_trap_doors_switch_is_kept_clear_of_and_closes_the_way():
    # The switch on the short way closes a door further on.
    game = Game(level(RING, here(10), [(here(24), here(20))], trap=[((384, 300), 0, here(12))]))
    assert game.goal["avoid"] == AVOID_ALL
    assert 1000 < game.way < 1200
    assert game.obs[8] == -1.0
    game.until(RIGHT, lambda: game.env._envs._state.closed[0, 0])
    assert game.goal["field"] == 2 and game.goal["avoid"] == AVOID_ALL
    way = way_length(RING, [], [(384, 288, 384, 312)], (game.x, game.y), here(20), TOUCH_SWITCH)
    assert game.way == pytest.approx(way, abs=1e-2)
    assert game.obs[8] == pytest.approx(-1.0, abs=1e-2)


def test_shutting_off_the_last_way_earns_nothing():
    # A corridor round a bend: 53 cells of way to a switch that lies 4 cells below the ninja. The trap door's switch, on
    # the way, closes it for good.
    tiles = ground((5, 10, 30, 10), (30, 10, 30, 14), (5, 14, 30, 14))
    exits = [(middle(12, 14), middle(6, 14))]
    game = Game(level(tiles, middle(6, 10), exits, trap=[((480, 252), 0, middle(9, 10))]))
    assert game.known and game.way > 1100
    straight = np.hypot(0, 4 * 24)
    game.until(RIGHT, lambda: game.env._envs._state.closed[0, 0])
    assert not game.known and game.way < straight + 100
    assert abs(game.reward) < 0.3  # a step's progress; the shorter line would be worth 10
    rewards = [game.reward]
    for action in [LEFT] * 30 + [RIGHT] * 30:
        game.step(action)
        rewards.append(game.reward)
    assert max(rewards) < 0.3
    assert sum(rewards) < 1.0


def test_a_level_without_exit():
    game = Game(level(CORRIDOR, here(10)), max_frames=80)
    assert game.kind is None and not game.known and not game.obs[:32].any()
    rewards = []
    while not game.step(RIGHT):
        rewards.append(game.reward)
        assert game.kind is None and not game.obs[:32].any()
    assert game.terminated and game.info["outcome"]["shortest"] == 0.0
    assert set(rewards) == {-0.002}  # there is nothing to come nearer to


def test_an_unreachable_exit_switch_is_looked_for_as_the_crow_flies():
    tiles = ground((1, ROW, 10, ROW), (20, ROW, 30, ROW))
    game = Game(level(tiles, here(5), [(here(24), here(22))]))
    assert game.kind == "switch" and not game.known
    assert game.way == pytest.approx(17 * 24, abs=1e-3)
    assert game.remaining == pytest.approx(2 * 24 - TO_EXIT, abs=1e-3)
    for _ in range(10):
        game.step(RIGHT)
    assert game.way == pytest.approx(np.hypot(here(22)[0] - game.x, here(22)[1] - game.y), abs=1e-2)


def test_an_exit_door_that_cannot_be_reached():
    tiles = ground((1, ROW, 10, ROW), (20, ROW, 30, ROW))
    game = Game(level(tiles, here(3), [(here(24), here(7))]))
    assert game.kind == "switch"
    assert game.way == pytest.approx(4 * 24 - TO_SWITCH, abs=1e-3)
    game.until(RIGHT, lambda: game.kind == "exit")
    assert game.way == pytest.approx(np.hypot(here(24)[0] - game.x, here(24)[1] - game.y), abs=1e-2)


def test_spawn_in_solid_ground():
    game = Game(level(CORRIDOR, middle(10, 18), [(here(20), here(12))]), max_frames=200)
    assert game.kind == "switch" and not game.known
    assert game.way == pytest.approx(np.hypot(2 * 24, 6 * 24), abs=1e-3)
    actions = np.random.default_rng(0).integers(0, 6, 100)
    for action in actions:
        if game.step(action):
            break
    assert np.isfinite(game.way)


def test_spawn_beyond_the_field():
    """Record bytes reach 1530 px, the field 1056 x 600."""
    game = Game(level(CORRIDOR, (1524, 1200), [(here(20), here(12))]), max_frames=200)
    assert game.kind == "switch" and not game.known
    while not game.step(RIGHT):
        pass
    assert game.terminated and game.info["outcome"]["frames"] == 200
