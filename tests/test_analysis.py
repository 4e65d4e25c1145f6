"""Failures, ways that are left and near misses of scripted episodes on hand-made levels, where they are known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hand_made import corridor, ground, here, level, middle
from PIL import Image

from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import CAUSES
from npp_rl.evaluation import analysis
from npp_rl.evaluation.retrace import retrace
from npp_rl.evaluation.suite import evaluate
from npp_rl.evaluation.summary import summarise
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.generator import generate

NONE, LEFT, RIGHT = 0, 1, 2


def play(levels, script):
    """Results of a policy that follows a list of actions, the last one for ever, whatever it sees."""
    left, seen = list(script), []

    def policy(x):
        now = x["game_state"][0].tobytes()  # with the time that is left
        if seen and now != seen[-1] and len(left) > 1:
            left.pop(0)
        seen.append(now)
        return np.tile(np.eye(6, dtype=np.float32)[left[0]], (len(x["game_state"]), 1))

    return evaluate(policy, levels, observations=("game_state",))


def outcome_of(one, script):
    (first,), (second,) = (entry["tries"] for entry in play([one, one], script)["levels"])
    assert first == second
    return first


# Six steps to the right and back to the wall behind the spawn, again and again: a swing of about 36 px.
SWING = ([RIGHT] * 6 + [LEFT] * 14) * 200
# A push of a step in ten: some 4 px.
CREEP = ([RIGHT] + [NONE] * 9) * 100


@pytest.mark.parametrize(
    ("failure", "columns", "script"),
    [
        ("stuck", (5, 12, 20), [NONE]),
        ("stuck", (1, 4, 5), [NONE]),  # near the goal, but that is not what keeps it
        ("stuck", (1, 4, 5), [LEFT]),  # against a wall
        ("wandering", (1, 20, 30), SWING),
        ("timed out near the goal", (1, 4, 5), SWING),
        ("too slow", (1, 41, 42), CREEP),
        (None, (5, 12, 20), [RIGHT]),
    ],
)
def test_failures_are_named(failure, columns, script):
    outcome = outcome_of(corridor(*columns), script)
    assert outcome["failure"] == failure and outcome["cause"] == "none"
    assert outcome["near_misses"] == 0
    assert outcome["success"] == (failure is None) == (outcome["way_left"] == 0)


def test_death_is_named_with_its_cause():
    outcome = outcome_of(corridor(mines=[here(8)]), [RIGHT])
    assert (outcome["failure"], outcome["cause"]) == ("died", "mine")
    assert 204 - 14 < outcome["x"] < 204 - 14 + 3.4 and outcome["y"] == 302  # within a frame of where it touches
    assert outcome["near_misses"] == 0  # it was near the mine when that killed it


# In the corridor with the switch in column 12 (x = 300) and the door in column 20 (x = 492) the ninja touches the
# switch from 16 px, the door from 22 px. A field's unit is 1.2 px.
TO_SWITCH, SWITCH_TO_DOOR, DOOR = 300 - 16, 192 - 22, 492 - 22


def test_way_left_goes_through_all_goals():
    standing = outcome_of(corridor(), [NONE])
    assert standing["way_left"] == pytest.approx(TO_SWITCH - 132 + SWITCH_TO_DOOR, abs=3)
    assert 0 < standing["way_left"] - standing["closest"] < 1  # it falls by 2 px at first
    assert (standing["x"], standing["y"]) == (132, 302)
    behind = outcome_of(corridor(), [RIGHT] * 20 + [NONE])  # over the switch, and stopped before the door
    assert 300 < behind["x"] < DOOR and behind["failure"] == "stuck"
    assert behind["way_left"] == behind["closest"] == pytest.approx(DOOR - behind["x"], abs=3)


def test_closest_is_the_least_of_the_episode():
    outcome = outcome_of(corridor(), [RIGHT] * 10 + [LEFT])
    assert outcome["x"] == 34 and outcome["failure"] == "stuck"  # at the left wall
    assert outcome["way_left"] == pytest.approx(TO_SWITCH - 34 + SWITCH_TO_DOOR, abs=3)
    envs = NppVectorEnv(2, [corridor()], ("game_state",))
    envs.reset()
    farthest = 0
    for action in [RIGHT] * 10 + [LEFT] * 30:
        envs.step(np.array([action, action]))
        farthest = max(farthest, envs._state.ninja["x"][0])
    assert outcome["closest"] == pytest.approx(TO_SWITCH - farthest + SWITCH_TO_DOOR, abs=3)


def hall(mines=(), toggle_mines=()):
    """A corridor two cells high: the ninja runs on its floor at y = 302."""
    return level(
        ground((1, 11, 42, 12)),
        here(3),
        [(here(38), here(35))],
        mines=mines,
        toggle_mines=toggle_mines,
    )


def test_near_misses_are_counted_once_per_approach():
    above = [(24 * column, 288) for column in (8, 14, 20)]  # 14 px above the ninja that runs by: it touches at less
    far = [(24 * column, 282) for column in (11, 17)]  # 20 px: 6 px too far to touch
    assert outcome_of(hall(above + far), [RIGHT])["near_misses"] == 3
    assert outcome_of(hall(far), [RIGHT])["near_misses"] == 0
    there_and_back = outcome_of(hall(above[:1]), [RIGHT] * 40 + [LEFT] * 40 + [NONE])
    assert there_and_back["near_misses"] == 2
    assert outcome_of(hall(above[:2]), [RIGHT])["success"]


def test_a_mine_that_turns_deadly_behind_the_ninja_is_no_near_miss():
    passed = outcome_of(hall(toggle_mines=[(24 * 10, 306)]), [RIGHT])
    assert passed["success"] and passed["near_misses"] == 0
    killed = outcome_of(hall(toggle_mines=[(24 * 10, 306)]), [RIGHT] * 40 + [LEFT])
    assert killed["cause"] == "mine" and killed["near_misses"] == 0


@pytest.mark.parametrize(("drop", "near_misses", "cause"), [(7, 0, "none"), (9, 1, "none"), (12, 0, "floor_impact")])
def test_hard_landings_are_near_misses(drop, near_misses, cause):
    """Falls of 7, 9 and 12 cells end at 4.0, 4.4 and 5.0 px a frame; 4.67 are deadly, more than 4.2 a near miss."""
    floor = 4 + drop
    shaft = level(
        ground((5, 4, 5, floor), (5, floor, 12, floor)), middle(5, 4), [(middle(12, floor), middle(10, floor))]
    )
    outcome = outcome_of(shaft, [NONE])
    assert (outcome["near_misses"], outcome["cause"]) == (near_misses, cause)


@pytest.mark.parametrize(("height", "near_misses"), [(282, 1), (276, 0)])
def test_a_drone_that_passes_by_is_a_near_miss(height, near_misses):
    """A zap drone kills from 17.5 px; the ninja stands 20 px, or 26 px, below its way. It flies 8/7 px a frame."""
    room = level(ground((2, 11, 40, 12)), here(8), [(here(40), here(38))], others=[(14, (108, height), 0, 0)])
    before, after = retrace([room], [(0, "0" * 15, 60), (0, "0" * 40, 160)], 4, 300)
    assert (before["state"], before["near_misses"]) == (0, 0)
    assert (after["state"], after["near_misses"]) == (0, near_misses)


def test_ways_are_those_of_the_environment():
    """Through doors, switches and mines of generated levels, with random actions."""
    levels = [generate(category, seed) for category in CATEGORIES for seed in range(3)]
    envs = NppVectorEnv(len(levels), levels, ("game_state",), autoreset=False)
    envs.reset(options={"levels": np.arange(len(levels))})
    total = [envs._episodes["total"].copy()]
    log, ended = [], np.zeros(len(levels), bool)
    frames, cause, ways, nearest = np.zeros((4, len(levels)))
    random = np.random.default_rng(0)
    held = random.integers(0, 6, len(levels))
    while not ended.all():
        change = random.random(len(levels)) < 0.1
        held = np.where(change, random.integers(0, 6, len(levels)), held)
        log.append(held.astype(str))
        _, _, terminated, truncated, infos = envs.step(held)
        total.append(envs._episodes["total"].copy())
        for i in np.flatnonzero((terminated | truncated) & ~ended):
            ended[i] = True
            frames[i], cause[i] = infos["outcome"]["frames"][i], infos["outcome"]["cause"][i]
            ways[i], nearest[i] = total[-1][i], np.min(total, 0)[i]
    texts = ["".join(column) for column in np.array(log).T]
    played = [(i, texts[i][: -(-int(frames[i]) // 4)], int(frames[i])) for i in range(len(levels))]
    traced = retrace(levels, played, 4, 300)
    timed_out = (cause == 0) & (traced["state"] != 8)
    assert timed_out.sum() >= 8 and (cause > 0).sum() >= 5
    np.testing.assert_array_equal(traced["way_left"][timed_out], ways[timed_out])
    np.testing.assert_array_equal(traced["closest"][timed_out], nearest[timed_out])
    again = retrace(levels, played[::-1], 4, 300)[::-1]
    np.testing.assert_array_equal(again, traced)


def test_pictures_of_failures(tmp_path):
    levels = [
        corridor(1, 4, 5, name="folder/won"),
        corridor(mines=[here(8)], name="died a"),
        corridor(mines=[here(9)], name="died b"),
        corridor(mines=[here(10)], name="died c"),
        corridor(30, 20, 10, name="stuck"),
    ]
    results = play(levels, [RIGHT])
    pictures = analysis.draw_failures(results, levels, tmp_path / "failures", 2)
    assert pictures == {
        "died a": "failures/died_a__died.png",
        "died b": "failures/died_b__died.png",
        "stuck": "failures/stuck__stuck.png",
    }
    for path in pictures.values():
        with Image.open(tmp_path / path) as picture:
            assert picture.size == (1044, 160 + 52)  # a corridor, as wide as the field
            assert len(picture.getcolors(10**6)) > 20
    for index in (1, 4):  # levels that the agent was trained on
        results["levels"][index]["trained_on"] = True
    assert list(analysis.draw_failures(results, levels, tmp_path / "some", 2)) == ["died b", "died c"]
    for entry in results["levels"]:
        entry["trained_on"] = True
    assert list(analysis.draw_failures(results, levels, tmp_path / "some", 1)) == ["died a", "stuck"]
    assert analysis.draw_failures(results, levels, tmp_path / "none", 0) == {} and not (tmp_path / "none").exists()
    assert "died (mine) after" in analysis.describe(results["levels"][1]["tries"][0])
    json.dumps(results, allow_nan=False)


def test_files_of_levels_have_names_of_their_own():
    one, two = (generate("simplest", seed) for seed in (1, 2))
    names = set()
    ids = ("a/b", "a?b", "\U0001f600", "\U0001f601", "x" * 300)
    made = [analysis.file_name(replace(level, id=id), names) for level, id in zip((one, two) * 3, ids, strict=False)]
    assert made == ["a_b", f"a_b_{two.digest[:8]}", "_", f"__{two.digest[:8]}", "x" * 80]


def test_summary_counts_failures_and_what_can_be_solved():
    def entry(par, *tries):
        outcomes = []
        for success, failure, frames, misses in tries:
            cause = "mine" if failure == "died" else CAUSES[0]
            outcomes.append(
                {"success": success, "cause": cause, "failure": failure, "frames": frames, "near_misses": misses}
                | {"steps": frames // 4, "return": 0.0, "efficiency": 0.5 if success else None}
            )
        return {"par": par, "success_rate": sum(o["success"] for o in outcomes) / len(outcomes), "tries": outcomes}

    entries = [
        entry(100, (True, None, 200, 1), (False, "died", 50, 0)),
        entry(None, (True, None, 80, 0), (True, None, 90, 2)),
        entry(60, (False, "stuck", 700, 0), (False, "stuck", 700, 0)),
        entry(None, (False, "wandering", 700, 3), (False, "too slow", 700, 0)),
    ]
    summary = summarise(entries)
    assert summary["failures"] == {"died": 1, "stuck": 2, "too slow": 1, "wandering": 1}
    assert summary["near_misses"] == pytest.approx(6 / 8)
    assert summary["par_efficiency"] == pytest.approx(100 / 200)  # the level without par does not count
    assert summary["success_rate"] == pytest.approx(1.5 / 4)
    assert summary["solvable"]["levels"] == 3 and summary["never_solved"] == 1
    assert summary["solvable"]["success_rate"] == pytest.approx(1.5 / 3)
    nothing = summarise(entries[3:])
    assert nothing["solvable"]["success_rate"] is None and nothing["par_efficiency"] is None
