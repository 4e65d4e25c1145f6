import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from calls import call
from free_space import door_segment, reachable, way_length

from npp_rl import make_levels
from npp_rl.commands import ArgumentError, LevelError, Progress
from npp_rl.environment.games import inputs_of
from npp_rl.levels import builtin, fields, generator
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.drafts import Dice, Draft
from npp_rl.planning import certify, planner, search
from npp_rl.simulator import WON, simulate
from npp_rl.simulator.tiles import SOLID

# Of all built-in levels' ids and map bytes. It changes only with the built-in levels themselves, and then every figure
# that was measured on them has to follow.
BUILTIN_DIGEST = "26ab70bbe90a47e42695fa4b16d8af3ef4e3d834bc5dbcc7a41745ce1305dc03"


def digest_of(levels) -> str:
    digest = hashlib.sha256()
    for level in levels:
        digest.update(level.id.encode() + level.map_data)
    return digest.hexdigest()


@pytest.fixture(scope="module")
def levels():
    return [*builtin.data_set("train"), *builtin.data_set("test")]  # made anew, not those that are kept


def test_the_built_in_levels_are_pinned(levels):
    assert digest_of(levels) == BUILTIN_DIGEST


def test_built_in_levels_are_kept(levels, monkeypatch, tmp_path):
    """What was kept is read, and what is damaged, of other code or another level is made anew. Nothing is executed."""
    place, made = tmp_path / "deep/builtin.npz", levels[-270:]
    monkeypatch.setattr(builtin, "_place", lambda split: place)
    assert builtin._kept("test") is None
    builtin._keep("test", made)
    assert builtin._kept("test") == made
    with monkeypatch.context() as patch:
        patch.setattr(builtin, "data_set", None)  # nothing is made
        assert builtin._builtin.__wrapped__("test") == tuple(made)
    whole = place.read_bytes()
    stamp, kept = str(builtin._stamp()), dict(np.load(place))
    one, other, few = dict(kept), kept | {"stamp": np.array("0" * 64)}, kept | {"lengths": kept["lengths"][:-1]}
    one["maps"] = kept["maps"].copy()
    one["maps"][700] ^= 1  # a tile
    executed = {"stamp": np.array(stamp), "lengths": np.array([Path.unlink, place], object), "maps": kept["maps"]}
    for content in (one, other, few, {"stamp": kept["stamp"]}, executed):
        np.savez(place, **content)
        assert builtin._kept("test") is None
    for damaged in (b"", whole[:5000], b"PK" + bytes(100)):
        place.write_bytes(damaged)
        assert builtin._kept("test") is None
    monkeypatch.setattr(builtin, "data_set", lambda split: made)
    assert builtin._builtin.__wrapped__("test") == tuple(made) and builtin._kept("test") == made, "it is mended"
    with monkeypatch.context() as patch:
        patch.setattr(builtin, "source_stamp", lambda: "another")
        builtin._stamp.cache_clear()
        assert builtin._kept("test") is None
    builtin._stamp.cache_clear()
    place.unlink()
    place.parent.chmod(0o500)
    builtin._keep("test", made)  # a folder that cannot be written is no error
    monkeypatch.setattr(builtin, "_place", lambda split: None)
    builtin._keep("test", made)
    assert builtin._kept("test") is None


def test_another_process_makes_the_same_levels_in_another_order():
    # Test levels only, another hash seed, and no other level made before.
    code = "from test_level_generator import builtin, digest_of; "
    code += "print(digest_of(builtin.data_set('test', ('exploration', 'complex', 'simplest'), 8)))"
    tests = Path(__file__).parent
    environment = os.environ | {"PYTHONHASHSEED": "12345", "PYTHONPATH": f"{tests.parent}{os.pathsep}{tests}"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    here = [level for c in ("exploration", "complex", "simplest") for level in of(builtin.builtin("test"), c)[:8]]
    assert run.stdout.split()[-1] == digest_of(here)


def of(levels, category):
    return [level for level in levels if level.category == category]


def test_counts_and_names(levels):
    train, test = load_levels("builtin", "train"), load_levels("builtin", "test")
    assert train + test == levels == load_levels("builtin")
    assert list(Counter(level.category for level in train).items()) == [(c, 100) for c in CATEGORIES]
    assert list(Counter(level.category for level in test).items()) == [(c, 30) for c in CATEGORIES]
    assert len({level.id for level in levels}) == len(levels) == 1170
    assert train[0].id == "simplest/train_0000" and test[-1].id == "exploration/test_0029"


def test_train_and_test_share_no_level():
    train = {level.tiles_digest for level in builtin.builtin("train")}
    test = {level.tiles_digest for level in builtin.builtin("test")}
    assert not train & test
    for category in CATEGORIES:  # nor does a category hold a level twice
        for part, count in (("train", 100), ("test", 30)):
            assert len({level.tiles_digest for level in of(builtin.builtin(part), category)}) == count
    # The splits are disjoint for any seed: the side is a property of the tiles.
    other = builtin.data_set("train", ("simplest",), 20, seed=7)
    assert {generator._side(level.map_data) for level in other} == {"train"}
    assert not {level.tiles_digest for level in other} & test


def test_seeds_make_different_levels_and_the_same_again():
    made = [generator.generate("medium", seed) for seed in (0, 1, 2, 1 << 32, (1 << 64) - 1)]
    assert len({level.digest for level in made}) == 5
    assert generator.generate("medium", 1).map_data == made[1].map_data
    assert generator.generate("medium", 1, "test").category == "medium"
    assert builtin.data_set("train", ("medium",), 3) == of(builtin.builtin("train"), "medium")[:3]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("hard", 1), "unknown category 'hard'.*simplest.*exploration"),
        (("simple", -1), "seed -1"),
        (("simple", 1 << 64), "seed"),
        (("simple", 1, "validation"), "split 'validation'.*train, test or all"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        generator.generate(*arguments)


def test_dice_draw_what_they_drew_before():
    dice = Dice(1, 2)
    assert [dice.below(10) for _ in range(8)] == [2, 1, 4, 4, 9, 5, 1, 6]
    assert dice.array(4, 34).tolist() == [21, 25, 0, 15]
    dice = Dice(3)
    counts = Counter(dice.between(-2, 2) for _ in range(5000))
    assert sorted(counts) == [-2, -1, 0, 1, 2] and min(counts.values()) > 850
    assert sorted(dice.sample(range(5), 9)) == [0, 1, 2, 3, 4]
    assert dice.between(4, 1) == 4


def entities_of(level):
    """(spawn, exit, switch, mines [m, 2], doors and keys as records), px."""
    records = level.entities.astype(int)
    at = 6.0 * records[:, 1:3]
    kind = records[:, 0]
    pairs = [(at[i], at[i + 1]) for i in np.flatnonzero(kind == 6)]
    return at[0], at[kind == 3][0], at[kind == 4][0], at[np.isin(kind, (1, 21))], pairs


def distance_to_ground(level, x, y):
    """Distance (px) of a point to the nearest solid polygon around it, border included; 0 inside."""
    best = np.inf
    column, row = int(x // 24), int(y // 24)
    for r in range(row - 1, row + 2):
        for c in range(column - 1, column + 2):
            inside = 1 <= c <= 42 and 1 <= r <= 23
            corners = SOLID[level.tiles[r - 1, c - 1] if inside else 1]
            if not corners:
                continue
            points = np.array(corners, float) + np.array((24.0 * c, 24.0 * r))
            ahead = np.roll(points, -1, 0) - points
            rest = np.array((x, y)) - points
            full = not inside or level.tiles[r - 1, c - 1] == 1
            if full and (ahead[:, 0] * rest[:, 1] - ahead[:, 1] * rest[:, 0] >= 0).all():
                return 0.0
            share = np.clip((ahead * rest).sum(1) / (ahead * ahead).sum(1), 0, 1)[:, None]
            best = min(best, np.hypot(*(rest - share * ahead).T).min())
    return best


def test_the_ninja_starts_in_free_space_and_far_from_mines(levels):
    for level in levels:
        spawn, _, _, mines, _ = entities_of(level)
        assert distance_to_ground(level, *spawn) >= 10, level.id
        assert not len(mines) or np.hypot(*(mines - spawn).T).min() >= 30, level.id


def test_switch_and_exit_can_be_reached_around_all_mines(levels):
    for level in levels:
        spawn, goal, switch, mines, pairs = entities_of(level)
        to_switch = way_length(level.tiles, mines, [], spawn, switch)
        assert np.isfinite(to_switch), level.id
        assert np.isfinite(way_length(level.tiles, mines, [], spawn, goal, fields.TOUCH_EXIT)), level.id
        for _, key in pairs:
            assert reachable(level.tiles, mines, [], spawn, key, fields.TOUCH_DOOR_SWITCH), level.id


def test_locked_doors_lie_behind_their_switches(levels):
    locked = 0
    for level in levels:
        spawn, goal, switch, mines, pairs = entities_of(level)
        if not pairs:
            continue
        closed = {i: door_segment(*door, 0) for i, (door, _) in enumerate(pairs)}
        needed = [not reachable(level.tiles, mines, list(closed.values()), spawn, g) for g in (switch, goal)]
        while closed:
            doors = list(closed.values())
            keys = [i for i in closed if reachable(level.tiles, mines, doors, spawn, pairs[i][1], 15.0)]
            assert keys, level.id
            for i in keys:
                del closed[i]
        locked += any(needed)
    assert locked >= 20  # doors that bar nothing teach nothing


def drawn(category, title, count):
    """The first levels of a kind that only training levels have."""
    made = (generator.generate(category, seed, more=True) for seed in itertools.count())
    return list(itertools.islice((level for level in made if level.title == title), count))


@pytest.fixture
def winnable(monkeypatch):
    """Whether the planner finds a way to win. Making it shorter takes most of its time, so that is left out."""

    def first_way(bank, pools, actions, steps, frame_skip, seed, deadline):
        search.replay(bank, pools, actions[:steps], frame_skip)
        return steps

    monkeypatch.setattr(planner, "_shorten", first_way)
    return lambda level: planner.plan_level(level, budget=20)[0] is not None


LINED = [
    ("simplest_few_mines", "lined corridor"),
    ("simplest_few_mines", "lined shaft"),
    ("simplest_with_mines", "lined corridor"),
    ("simplest_with_mines", "lined shaft"),
    ("simple", "lined corridor"),
    ("simple", "lined shaft"),
    ("medium", "lined shaft"),
]


def test_lined_corridors_and_shafts_have_mines_along_them_and_a_way_past(winnable, monkeypatch):
    monkeypatch.setattr(generator, "BESET", {})  # further mines may close the way, see below
    lined = [level for kind in LINED for level in drawn(*kind, 3)]
    assert any(len(entities_of(level)[4]) for level in lined)  # some with a locked door
    for level in lined:
        mines = entities_of(level)[3]
        assert any(distance_to_ground(level, *mine) < 1 for mine in mines), level.id
        assert winnable(level), level.id


def test_some_corridors_a_tile_high_have_mines_on_the_ceiling_between_ninja_and_goals():
    """The ninja runs below them at 14 px, which does not touch (PHYSICS.md 5.3, 6.9)."""
    close = 0
    for level in drawn("simplest_few_mines", "lined corridor", 40):
        spawn, _, switch, mines, _ = entities_of(level)
        between = [m for m in mines if min(spawn[0], switch[0]) < m[0] < max(spawn[0], switch[0])]
        close += spawn[1] == switch[1] and any(m[1] == switch[1] - 12 for m in between)
    assert close >= 3


def test_in_some_levels_for_training_mines_stand_beside_the_goals_and_the_start(winnable):
    made = [generator.generate("mine_heavy", seed, more=True) for seed in range(60)]
    nearest = np.empty((len(made), 3))
    for level, row in zip(made, nearest, strict=True):
        spawn, exit, switch, mines, _ = entities_of(level)
        row[:] = [np.hypot(*(mines - place).T).min() for place in (spawn, exit, switch)]
    assert (nearest[:, 0] >= 20).all()  # no level begins with a death
    assert ((nearest < (40, 24, 24)).mean(0) > 0.1).all() and ((nearest > 60).mean(0) > 0.1).all()
    assert sum(map(winnable, made[:15])) >= 14


@pytest.mark.parametrize(
    ("category", "title"),
    [("medium", "stepping stones"), ("mine_heavy", "mine field"), ("mine_heavy", "gap"), ("complex", "rubble")],
)
def test_the_harder_kinds_for_training_can_mostly_be_won(category, title, winnable):
    made = drawn(category, title, 10)
    assert title == "rubble" or all(len(entities_of(level)[3]) >= 3 for level in made)
    assert sum(map(winnable, made)) >= 9


def test_rough_ground_is_of_all_tiles_and_leaves_levels_playable(monkeypatch):
    """Drafts with and without: only rock beside open cells changes, in two of five but for those it would spoil."""

    def drafts():
        made = []
        for seed in range(80):
            function, arguments = generator._kind("simple", Dice(seed, 0), True)
            made.append(generator._draft("simple", function, arguments, Dice(seed, 1), True))
        return made

    rough = drafts()
    monkeypatch.setattr(generator, "_roughen", lambda draft: None)
    pairs = [(one, other.tiles) for one, other in zip(rough, drafts(), strict=True) if other is not None]
    changed = [(one, whole) for one, whole in pairs if (one.tiles != whole).any()]
    assert 0.1 < len(changed) / len(pairs) < 0.5
    for draft, whole in changed:
        assert generator._is_playable(draft, True)
        for row, column in np.argwhere(draft.tiles != whole):
            assert whole[row, column] == 1
            assert (whole[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] == 0).any()
    assert set(np.concatenate([draft.tiles[draft.tiles != whole] for draft, whole in changed])) == set(range(2, 34))


def test_only_levels_of_other_seeds_than_the_built_in_ones_have_more_kinds():
    assert builtin.data_set("train", ("simplest_few_mines",), 5, more=True) == builtin.data_set(
        "train", ("simplest_few_mines",), 5
    )
    titles = {level.title for level in builtin.data_set("train", ("simplest_few_mines",), 20, 7, more=True)}
    assert "lined corridor" in titles
    titles = {level.title for level in builtin.data_set("train", ("simplest_few_mines",), 20, 7)}
    assert not any(title.startswith("lined") for title in titles)


def test_all_kinds_of_ground_and_entities_occur(levels):
    assert set(np.unique([level.tiles for level in levels])) == set(range(34))
    kinds = {kind for level in levels for kind in level.entities[:, 0].tolist()}
    assert kinds == {0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 21}
    titles = {level.title for level in levels}
    assert titles >= {"maze", "cave", "hills", "islands", "platforms", "vaults", "mine field", "gap", "chambers"}


def test_mirrored_tiles_are_mirror_images():
    y, x = np.mgrid[0.25:24:0.5, 0.35:24:0.5]  # no sample lies on a slope

    def solid(tile, x):
        if not SOLID[tile]:
            return np.zeros(x.shape, bool)
        points = np.array(SOLID[tile], float)
        # Even-odd rule, so that hollow tiles count too.
        result = np.zeros(x.shape, bool)
        for (x1, y1), (x2, y2) in zip(points, np.roll(points, -1, 0), strict=True):
            if y1 != y2:
                result ^= ((y1 > y) != (y2 > y)) & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
        return result

    for tile in range(34):
        assert (solid(tile, 24 - x) == solid(generator.MIRRORED[tile], x)).all(), tile


def room(*, mine=None, door_key=None):
    """A corridor two tiles high from column 2 to 20: the ninja left, the switch in the middle, the exit right."""
    draft = Draft(Dice(0))
    draft.open(2, 9, 20, 10)
    draft.place((2, 10), (11, 10), (20, 10))
    for dx, dy in mine or ():
        draft.mines.append((1, 4 * 8 + 4 + dx, 4 * 9 + 4 + dy))
    if door_key is not None:
        for row in (9, 10):
            draft.extras += [(6, 4 * 8 + 4, 4 * row + 6, 0, 0), (7, 4 * door_key + 6, 4 * 10 + 6, 0, 0)]
    return draft


def test_what_cannot_be_played_is_refused():
    assert generator._is_playable(room())
    assert generator._is_playable(room(mine=[(0, 8)]))  # on the floor: 48 px of room above
    assert not generator._is_playable(room(mine=[(0, 4)]))  # half way up
    assert generator._is_playable(room(mine=[(0, 0), (0, 8)]))  # between two that are 48 px apart
    assert not generator._is_playable(room(mine=[(0, 3), (0, 8)]))  # 30 px
    assert generator._is_playable(room(door_key=5))
    assert not generator._is_playable(room(door_key=12))  # behind its own door
    blocked = room()
    blocked.fill(15, 9, 15, 10)
    assert not generator._is_playable(blocked)
    too_low = room()
    too_low.tiles[9, 15], too_low.tiles[10, 15] = 1, 2
    assert not generator._is_playable(too_low)
    near = room()
    near.mines.append((1, near.ninja[0] + 4, near.ninja[1]))
    assert not generator._is_playable(near)


# Inputs that win, found by a search: (input byte, frames) one after the other.
SOLUTIONS = {
    "simplest/test_0003": (
        "4x4 0x8 4x12 5x4 3x8 2x36 3x16 2x12 5x4 0x4 1x4 4x8 1x4 0x4 4x28 1x4 0x8 4x16 1x4 3x16 2x12 0x4 2x4 0x8"
    ),
    "simplest_few_mines/test_0003": ("0x12 1x6 0x18 4x6 1x6 2x36 0x12 2x30 0x6"),
    "simplest_with_mines/test_0003": ("0x6 2x36 1x6 2x6 0x18 2x6 0x6 2x18 1x12 5x6 1x12 0x6 1x18 0x6"),
    "simpler/test_0003": ("3x28 2x24 3x16 2x4 1x16 5x4 1x4 3x4"),
    "simple/test_0003": ("5x18 4x6 1x6 0x6 4x18 1x6 2x6 0x24 1x12 0x12 4x18 0x6 4x42 0x6"),
    "medium/test_0003": ("4x8 5x24 4x48 5x8 1x8 4x16 0x24 4x8 2x8 3x8 2x72 3x8 2x16 0x8 2x8 0x8 2x8 0x8 2x24 0x8"),
    "complex/test_0003": (
        "5x18 4x6 1x6 0x6 4x24 0x18 4x12 5x6 4x6 0x18 4x12 0x12 4x12 5x6 0x6 4x6 0x6 4x6 0x6 4x6 0x6 2x12 "
        "3x6 2x6 5x6 1x6 5x18 1x6 5x12 4x6 0x6 4x6 5x6 0x6 4x18 0x18 4x66 0x6 2x114 1x6 2x24 0x6 2x6 0x30"
    ),
    "mine_heavy/test_0003": (
        "4x54 1x6 4x6 0x6 4x6 0x6 4x6 0x6 4x6 0x6 3x6 2x12 4x6 5x6 1x6 5x18 1x6 5x6 4x6 5x6 0x6 4x6 5x24 4x18 0x6"
    ),
    "exploration/test_0003": (
        "0x6 2x12 3x6 2x24 0x18 3x6 2x12 0x12 2x6 0x6 4x30 0x12 2x6 0x24 4x6 2x6 3x6 2x48 1x6 2x6 1x6 5x12 "
        "4x12 5x6 4x6 0x18 5x6 2x6 5x6 1x12 3x6 1x6 4x6 5x6 0x12 1x6 2x6 3x6 2x6 1x6 0x12 4x6 0x6"
    ),
}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_a_level_of_each_category_can_be_won(levels, name):
    level = next(level for level in levels if level.id == name)
    inputs = bytes(int(word[0]) for word in SOLUTIONS[name].split() for _ in range(int(word[2:])))
    _, states = simulate(level.map_data, inputs)
    assert states[-1] == 8 and not (states == 6).any()


def run(*arguments):
    call(make_levels, *arguments)


def failure(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.startswith("error: ") and error.count("\n") == 1
    return error


def said(capsys):
    shown, error = capsys.readouterr()
    assert error == ""
    return shown


def test_a_written_data_set_is_read_back(tmp_path, capsys):
    out = tmp_path / "deep" / "set"
    run("--out", out, "--split", "test", "--count", 2, "--seed", 5)
    made = builtin.data_set("test", CATEGORIES, 2, 5)
    assert load_levels(out) == made and len(made) == 18
    assert "18 levels, 9 categories" in capsys.readouterr().out
    run("--out", out, "--count", 1, "--categories", "simple,medium", "complex", "--split", "train")
    assert f"{out}: replaces the data set of this command that is there, 18 levels, split 'test', seed 5" in said(
        capsys
    )
    again = load_levels(out)  # replaced as a whole
    assert Counter(level.category for level in again) == {"simple": 1, "medium": 1, "complex": 1}
    assert [p.name for p in out.parent.iterdir()] == ["set"]


def test_both_splits_are_two_data_sets_that_nobody_takes_for_one(tmp_path, capsys):
    out = tmp_path / "set"
    run("--out", out, "--count", 2, "--categories", "simple", "medium")
    shown = said(capsys)
    assert "8 levels" in shown and f"two data sets: {out / 'train'} (4), {out / 'test'} (4)" in shown
    for split in ("train", "test"):
        made = load_levels(out / split)
        assert made == builtin.data_set(split, ("simple", "medium"), 2)
        about = json.loads((out / split / "levels_metadata.json").read_text())
        assert (about["split"], about["total_levels"]) == (split, 4)
    assert sorted(path.name for path in out.iterdir()) == ["test", "train"]
    with pytest.raises(LevelError, match=r"set: no level, but folders with sub-folders \(test, train\): expected one"):
        load_levels(out)
    run("--out", out, "--count", 1, "--categories", "simple")  # replaced as a whole
    assert "replaces the data set of this command that is there, 8 levels, split 'train' and 'test', seed 0" in said(
        capsys
    )
    assert [len(load_levels(out / split)) for split in ("train", "test")] == [1, 1]
    (out / "train" / "notes").write_bytes(b"mine")
    assert "train/notes" in failure(capsys, "--out", out, "--count", 1)
    (out / "train" / "notes").unlink()
    run("--out", out, "--count", 1, "--categories", "simple", "--split", "test")
    assert len(load_levels(out)) == 1 and not (out / "test").exists()
    assert capsys.readouterr().err == ""


def test_long_work_says_how_far_it_is(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Progress, "SECONDS", -1)
    run("--out", tmp_path / "set", "--count", 2, "--categories", "simple", "--split", "train")
    assert load_levels(tmp_path / "set")
    lines = [line.rpartition(" after")[0] for line in said(capsys).splitlines()]
    for line in ("levels made: 1 of 2", "levels made: 2 of 2", "levels written: 2 of 2"):
        assert line in lines
    assert f"{tmp_path / 'set'}: reading: 1 of 2" in lines


def test_a_folder_with_other_files_is_left_alone(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("mine")
    assert "thesis.txt" in failure(capsys, "--out", tmp_path, "--count", 1)
    (tmp_path / "thesis.txt").unlink()
    run("--out", tmp_path, "--count", 1, "--categories", "simple")
    own = tmp_path / "train" / "simple" / "own_level"
    own.write_bytes(b"x")
    assert "own_level" in failure(capsys, "--out", tmp_path, "--count", 1)
    assert own.read_bytes() == b"x"
    assert "not a folder" in failure(capsys, "--out", own, "--count", 1)


def test_a_full_disk_leaves_nothing_behind(tmp_path, capsys, monkeypatch):
    run("--out", tmp_path / "set", "--count", 3, "--categories", "simple", "--split", "train")
    before = load_levels(tmp_path / "set")
    written = []

    def full(path, data):
        written.append(path)
        if len(written) > 3:
            raise OSError(28, "No space left on device", str(path))
        with path.open("wb") as file:
            return file.write(data)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert "No space left" in failure(capsys, "--out", tmp_path / "set", "--count", 2, "--categories", "simple")
    assert len(written) == 4
    assert [p.name for p in tmp_path.iterdir()] == ["set"] and load_levels(tmp_path / "set") == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--out", "x", "--categories", "simple", "foo"], ["'foo'", *CATEGORIES]),
        (["--out", "x", "--count", "0"], ["--count 0", "1 to"]),
        (["--out", "x", "--count", "many"], ["--count", "many"]),
        (["--out", "x", "--seed", "-1"], ["--seed -1"]),
        (["--out", "x", "--split", "half"], ["--split", "half", "train"]),
        (["--out", "x", "--preview", "nowhere/a.png"], ["--preview nowhere/a.png", "a folder that exists"]),
        (["--out", "x", "--preview", "/dev/full"], ["--preview /dev/full", "expected a file"]),
        (["--out", "x", "--preview", "."], ["--preview .", "expected a file"]),
        ([], ["--out", "--preview"]),
    ],
)
def test_bad_options_are_named(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    error = failure(capsys, *arguments)
    assert all(word in error for word in words), error
    assert not list(tmp_path.iterdir())


def test_the_preview_is_a_picture_of_all_levels(tmp_path, capsys):
    from PIL import Image

    run("--preview", tmp_path / "sheet.png", "--count", 2, "--categories", "simple", "--split", "train")
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 600 and picture.height > 150
    assert "2 pictures" in capsys.readouterr().out


def test_par_times_come_from_the_table_and_the_planner_s_folder(tmp_path):
    levels = builtin.data_set("train", ("simplest",), 2, seed=7)
    known = builtin.par_of(levels)
    entry = {"id": "a", "category": "simplest", "digest": levels[0].digest, "frames": 77, "solved": True}
    lost = {"id": "b", "category": "simplest", "digest": levels[1].digest, "frames": None, "solved": False}
    (tmp_path / "planner.json").write_text(json.dumps({"levels": [entry, lost]}))
    assert known == [None, None]
    assert builtin.par_of(levels, tmp_path) == builtin.par_of(levels, tmp_path / "planner.json") == [77, None]


@pytest.mark.parametrize("content", [None, "", "[]", '{"levels": [{"solved": true}]}', '{"levels": 3}'])
def test_a_folder_without_the_planner_s_index_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "planner.json").write_text(content)
    with pytest.raises(LevelError, match=r"planner.json: (cannot be read|not an index)"):
        builtin.par_of([], tmp_path)


def wins(level):
    """Whether the table's run of a built-in level wins in the frame that is its par."""
    actions = next(row["actions"] for row in builtin.table() if row["sha256"] == level.digest)
    par = builtin.pars()[level.digest]
    inputs = inputs_of(actions, builtin.TABLE_FRAME_SKIP, par)
    _, states = simulate(level.map_data, inputs)
    return len(inputs) == len(states) == par and states[-1] == WON and len(actions) == -(-par // 4)


def test_every_built_in_level_has_a_row_in_the_table(levels):
    rows = builtin.table()
    assert [row["sha256"] for row in rows] == [level.digest for level in levels]
    assert [f"{row['category']}/{row['split']}" for row in rows] == [level.id.split("_0")[0] for level in levels]
    assert list(builtin.pars().values()) == builtin.par_of(levels)
    assert builtin.TABLE.stat().st_size < 1_000_000
    assert all(wins(level) for level in levels[::29])


@pytest.mark.slow
def test_every_run_of_the_table_wins(levels):
    assert [level.id for level in levels if not wins(level)] == []


def test_a_generator_that_makes_other_levels_is_found_out(monkeypatch):
    row = next(row for row in builtin.table() if row["category"] == "simplest")
    monkeypatch.setattr(builtin, "table", lambda: (row | {"sha256": "0" * 64},))
    with pytest.raises(LevelError, match=r"built-in level simplest/train_0000 has the SHA-256 .*expected 000") as error:
        builtin.data_set("train", ("simplest",), 1)
    assert "\n" not in str(error.value)
    assert builtin.data_set("train", ("simplest",), 1, seed=1)  # other seeds have no table


def test_certifying_replaces_what_the_planner_does_not_solve(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(builtin, "CATEGORIES", ("simplest", "simple"))
    monkeypatch.setattr(certify, "CATEGORIES", ("simplest", "simple"))
    monkeypatch.setattr(planner, "SHORTENINGS", ())
    for module in (builtin, certify):
        monkeypatch.setattr(module, "BUILTIN_COUNTS", {"train": 2, "test": 1})
        monkeypatch.setattr(module, "TABLE", tmp_path / "table.csv")
    drawn = [pair for _, pair in zip(range(3), builtin.draw_levels("simplest", "train", 0, False), strict=False)]
    plan_levels = planner.plan_levels

    def but_one(levels, *more):
        for entry in plan_levels(levels, *more):
            failed = entry["digest"] == drawn[0][1].digest
            yield entry | ({"solved": False, "reason": "too hard"} if failed else {})

    compared = []

    def near_copies(test, train):
        compared.append(({level.id for level in test}, {level.id for level in train}))
        return test[1:] if len(compared) == 1 else []

    monkeypatch.setattr(planner, "plan_levels", but_one)
    monkeypatch.setattr(certify, "near_copies", near_copies)
    certify.main(certify.Args(out=str(tmp_path / "replays"), budget="60s"))
    said = capsys.readouterr().out
    train = {"simplest/train_0001", "simplest/train_0002", "simple/train_0000", "simple/train_0001"}  # as drawn
    assert compared == [({"simplest/test_0000", f"simple/test_000{k}"}, train) for k in (0, 1)]
    test_draws = [seed for _, (seed, _) in zip(range(2), builtin.draw_levels("simple", "test", 0, False), strict=False)]
    assert f"simple/test_0000 of seed {test_draws[0]} is replaced: a near-copy of a training level" in said
    assert f"simplest/train_0000 of seed {drawn[0][0]} is replaced: too hard" in said
    rows = builtin.table.__wrapped__()
    assert [row["seed"] for row in rows[:2]] == [drawn[2][0], drawn[1][0]] and len(rows) == 6
    assert rows[5]["seed"] == test_draws[1]
    monkeypatch.setattr(builtin, "table", lambda: rows)
    made = builtin.data_set("all", ("simplest",))
    assert [level.id for level in made] == ["simplest/train_0000", "simplest/train_0001", "simplest/test_0000"]
    assert [level.tiles_digest for level in made[:2]] == [drawn[2][1].tiles_digest, drawn[1][1].tiles_digest]
    assert all(wins(level) for level in made)
    # More levels than the table has: those drawn from the seed, none twice.
    more = builtin.data_set("train", ("simplest",), 4)
    assert more[:2] == made[:2] and len({level.tiles_digest for level in more}) == 4


def test_a_budget_that_is_not_understood_is_one_line():
    with pytest.raises(ArgumentError, match="--budget 'long': expected seconds or minutes"):
        certify.main(certify.Args(budget="long"))


def test_a_data_set_whose_replacing_was_killed_is_put_back(tmp_path, capsys):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    args = {"categories": ("simplest",), "split": "train"}
    make_levels.main(make_levels.Args(out=tmp_path / "set", count=2, **args))
    old = sorted(path.name for path in (tmp_path / "set/simplest").iterdir())
    left = tmp_path / f".set.{dead.pid}.a1b2c3d4"
    left.mkdir()
    (tmp_path / "set").rename(left / "old")  # killed between the two renames
    other = tmp_path / f".set.{os.getppid()}.a1b2c3d4"  # of a process that works
    other.mkdir()
    make_levels.recover(tmp_path / "set")
    assert sorted(path.name for path in (tmp_path / "set/simplest").iterdir()) == old
    assert not left.exists() and other.exists() and "put back" in capsys.readouterr().err
    left.mkdir()
    (left / "new").mkdir()
    make_levels.main(make_levels.Args(out=tmp_path / "set", count=3, **args))
    assert not left.exists() and len(list((tmp_path / "set/simplest").iterdir())) == 3
