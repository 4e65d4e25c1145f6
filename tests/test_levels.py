import itertools
import os
import pickle
import struct

import numpy as np
import pytest

from npp_rl.commands import LevelError
from npp_rl.files import write_atomically
from npp_rl.levels import builtin, datasets, maps, texts
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.datasets import held_share, load_levels, load_split, split_by_tiles, training_levels
from npp_rl.levels.maps import Level, encode_map, mirrored, unknown_records
from npp_rl.simulator import simulate

NINJA, EXIT, SWITCH = (0, 10, 20, 0, 0), (3, 30, 20, 0, 0), (4, 20, 20, 0, 0)


def some_tiles(seed=0):
    return np.random.default_rng(seed).integers(0, 38, (23, 42), np.uint8)


def some_map(seed=0, entities=(NINJA, EXIT, SWITCH), title=""):
    return encode_map(some_tiles(seed), list(entities), title)


def write_pickle(path, map_data, **content):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"level_id": path.stem, "category": path.parent.name, "map_data": map_data, **content}
    path.write_bytes(pickle.dumps(content))


def test_encode_map_puts_everything_at_its_offset():
    tiles = some_tiles()
    entities = [NINJA, (1, 5, 6, 0, 0), EXIT, (3, 31, 20, 0, 0), SWITCH, (4, 21, 20, 0, 0), (26, 9, 8, 7, 3)]
    data = encode_map(tiles, entities, "abc")
    assert len(data) == 1230 + 5 * 7
    assert struct.unpack_from("<I", data, 4) == (len(data),)
    assert data[38:42] == b"abc\0"
    assert data[184 + 41 + 42 * 22] == tiles[22, 41] and data[184 + 3 + 42 * 1] == tiles[1, 3]
    counts = struct.unpack_from("<40H", data, 1150)
    assert counts == tuple({0: 1, 1: 1, 3: 2, 4: 2, 26: 1}.get(t, 0) for t in range(40))
    assert data[1156] == 2
    assert data[1230:] == bytes(np.array(entities, np.uint8).reshape(-1))


def test_level_reads_back_what_was_encoded():
    level = Level(some_map(3, title="a title"), "x", "simple", "a title")
    assert np.array_equal(level.tiles, some_tiles(3)) and level.tiles.dtype == np.uint8
    assert level.entities.tolist() == [list(NINJA), list(EXIT), list(SWITCH)]
    assert level.spawn == (60, 120)
    other = Level(some_map(3, [NINJA, (3, 31, 20, 0, 0), SWITCH]), "y", "simple")
    assert level.tiles_digest == other.tiles_digest and level.digest != other.digest
    assert maps.map_title(level.map_data) == "a title"
    assert Level(level.map_data[:-3], "cut", "simple").entities.tolist()[2] == [4, 20, 0, 0, 0]


@pytest.mark.parametrize(
    ("entities", "message"),
    [
        ([], "entities must be"),
        ([EXIT, SWITCH], "start with the ninja"),
        (
            [NINJA, EXIT, (1, 1, 1, 0, 0), SWITCH],
            "record 1 is a door of type 3: expected its switch, type 4, in record 2",
        ),
        ([NINJA, (6, 1, 1, 0, 0)], "record 1 is a door of type 6: expected its switch, type 7, in record 2"),
        ([NINJA, (1, 256, 1, 0, 0)], "integers in 0..255"),
        ([NINJA, (1, 0.5, 1, 0, 0)], "integers in 0..255"),
    ],
)
def test_encode_map_refuses_what_the_format_cannot_say(entities, message):
    with pytest.raises(ValueError, match=message):
        encode_map(some_tiles(), entities)


def test_folder_of_raw_maps(tmp_path, capsys):
    (tmp_path / "simple").mkdir()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "b").write_bytes(some_map(1, title="hello"))
    (tmp_path / "simple" / "a.map").write_bytes(some_map(2))
    (tmp_path / "top level").write_bytes(some_map(3))
    (tmp_path / "README.md").write_text("text")
    (tmp_path / "sheet.png").write_bytes(b"\x89PNG")
    found = load_levels(tmp_path)
    assert [(lv.id, lv.category, lv.title) for lv in found] == [
        ("top level", "uncategorized", ""),
        ("simple/a.map", "simple", ""),
        ("own/b", "own", "hello"),
    ]
    assert found[1].map_data == some_map(2)
    assert capsys.readouterr() == ("", "")


def test_names_that_are_no_text_are_escaped(tmp_path):
    """Categories become names of metrics, which TensorBoard wants in UTF-8, and words on a terminal."""
    folder = tmp_path / os.fsdecode(b"simp\xff\x1b[31m")
    folder.mkdir()
    (folder / "a\n").write_bytes(some_map(1))
    pickled = {"map_data": list(some_map(2)), "category": "\udcff"}
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(pickled))
    found = load_levels(tmp_path)
    names = {(level.category, level.id) for level in found}
    assert names == {(r"simp\xff\x1b[31m", r"simp\xff\x1b[31m/a\n"), (r"\xff", "b")}


def test_map_without_header_is_a_map(tmp_path):
    (tmp_path / "m").write_bytes(bytes(184) + some_map(1)[184:])
    assert load_levels(tmp_path / "m")[0].spawn == (60, 120)


def test_pickled_numbers_are_rounded_and_limited(tmp_path, capsys):
    numbers = list(some_map(5))
    numbers[1231:1235] = [10.5, 11.5, -1, 300]
    numbers[1241] = 20.4
    write_pickle(tmp_path / "simple" / "s_000.pkl", numbers)
    write_pickle(tmp_path / "simple" / "s_001.pkl", list(some_map(6)))
    first, second = load_levels(tmp_path)
    assert first.map_data[1230:1235] == bytes([0, 10, 12, 0, 255]) and first.map_data[1241] == 20
    assert second.map_data == some_map(6)
    assert (first.id, first.category) == ("s_000", "simple")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "1 levels with fractional numbers" in lines[0] and "1 with numbers outside" in lines[0]


def test_nine_byte_locked_door_gets_its_zero(tmp_path, capsys):
    data = encode_map(some_tiles(), [NINJA, (1, 6, 6, 0, 0), (6, 7, 8, 2, 0), (7, 9, 10, 0, 0), EXIT, SWITCH])
    door = 1230 + 10
    write_pickle(tmp_path / "medium" / "m.pkl", [*data[: door + 9], *data[door + 10 :]])
    (level,) = load_levels(tmp_path)
    assert level.map_data == data
    assert "1 with a 9-byte locked door" in capsys.readouterr().err


class Evil:
    def __reduce__(self):
        return print, ("code ran",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps({"map_data": Evil()}), "refused: the pickle asks for 'builtins.print'"),
        (pickle.dumps(Evil(), protocol=0), "refused: the pickle asks for '__builtin__.print'"),
        (pickle.dumps({"map_data": np.zeros(1240)}), "refused: the pickle asks for"),
        (pickle.dumps({"map_data": [0] * 1230 + ["x"] * 5}), "map_data[1230] is 'x', expected a number"),
        (pickle.dumps({"map_data": [0] * 1230 + [float("nan")] * 5}), "map_data[1230] is nan, expected a number"),
        (pickle.dumps({"map_data": 7}), "map_data is a int, expected a list"),
        (pickle.dumps([1, 2]), "expected a dictionary with the entry map_data"),
        (pickle.dumps({"map_data": [0] * 1240})[:900], "damaged pickle"),
        (pickle.dumps({"map_data": [0] * 100}), "map of 100 bytes, expected at least 1233"),
        (pickle.dumps({"map_data": [0] * 1237}), "the last record is cut"),
        (b"", "empty file"),
        (b"not a pickle at all", "damaged pickle"),
    ],
)
def test_bad_pickles_are_named_and_left_out(tmp_path, capsys, content, reason):
    write_pickle(tmp_path / "simple" / "good.pkl", list(some_map(1)))
    (tmp_path / "simple" / "bad.pkl").write_bytes(content)
    assert [lv.id for lv in load_levels(tmp_path)] == ["good"]
    out, err = capsys.readouterr()
    first, second = err.splitlines()
    assert first.startswith(f"{tmp_path / 'simple' / 'bad.pkl'}: left out: ") and reason in first
    assert "1 of 2 levels left out" in second
    assert out == ""

    with pytest.raises(LevelError) as error:
        load_levels(tmp_path / "simple" / "bad.pkl")
    assert "bad.pkl" in str(error.value) and reason in str(error.value) and "\n" not in str(error.value)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (some_map()[:700], "map of 700 bytes, expected at least 1233"),
        (some_map()[:-5], "1240 bytes whose header says 1245: cut or damaged"),
        (bytes(184) + some_map()[184:-2], "the last record is cut"),
        (some_map(entities=[NINJA, (10, 1, 1, 8, 0)]), "record 1 at byte 1235 (launch pad) has orientation 8"),
        (some_map(entities=[NINJA, EXIT, SWITCH, (14, 1, 1, 0, 4)]), "record 3 at byte 1245 (zap drone) has mode 4"),
        (struct.pack("<II", 1235, 10) + bytes(1245), "a replay, expected a map file"),
        (bytes((1 << 20) + 1), "not a level"),
    ],
)
def test_bad_maps_are_named(tmp_path, data, reason):
    (tmp_path / "thing").write_bytes(data)
    with pytest.raises(LevelError) as error:
        load_levels(tmp_path)
    message = str(error.value)
    assert message.startswith(f"{tmp_path}: no usable level") and "; thing: " in message
    assert reason in message and "\n" not in message


def test_nothing_to_load(tmp_path):
    with pytest.raises(LevelError, match="no such folder or file"):
        load_levels(tmp_path / "missing")
    with pytest.raises(LevelError, match="no usable level among 0 files"):
        load_levels(tmp_path)
    with pytest.raises(LevelError, match="split 'valid': expected train, test or all"):
        load_levels(tmp_path, split="valid")


def test_metadata_reports_missing_levels(tmp_path, capsys):
    write_pickle(tmp_path / "simple" / "s_000.pkl", list(some_map(1)))
    file = tmp_path / "train_metadata.json"
    file.write_text('{"categories": {"simple": {"level_ids": ["s_000", "s_001"]}}}')
    assert len(load_levels(tmp_path)) == 1
    assert "1 levels that the metadata list are not there: s_001" in capsys.readouterr().err
    file.write_text("{")
    assert len(load_levels(tmp_path)) == 1
    assert "train_metadata.json: ignored" in capsys.readouterr().err


def test_split_by_tiles_is_a_partition_that_keeps_equal_tiles_together():
    found = [Level(some_map(k // 2, [NINJA, EXIT, (4, k % 2, 9, 0, 0)]), str(k), "simple") for k in range(400)]
    train, rest = split_by_tiles(found, 0.25)
    assert sorted([*train, *rest], key=lambda lv: int(lv.id)) == found
    assert not {lv.tiles_digest for lv in train} & {lv.tiles_digest for lv in rest}
    assert 60 <= len(rest) <= 140
    assert split_by_tiles(reversed(found), 0.25)[1] == rest[::-1]
    assert split_by_tiles(found, 0) == (found, []) and split_by_tiles(found, 1) == ([], found)


def write_levels(folder, levels):
    folder.mkdir()
    for level in levels:
        (folder / level.id).write_bytes(level.map_data)
    return str(folder)


def test_no_training_level_is_a_held_out_one_in_the_mirror(tmp_path):
    """The training folder holds two test levels, one of them mirrored, and both sides of many other levels."""
    own = [Level(some_map(k), str(k), "simple") for k in range(40)]
    images = [Level(mirrored(level).map_data, f"{level.id} turned", "simple") for level in own]
    test = write_levels(tmp_path / "test", [own[0], images[1]])
    train, validation, suite = load_split(write_levels(tmp_path / "train", own + images), test, 0.2, 0.2)
    assert [level.id for level in suite] == ["0", "1 turned"] and len(validation) > 4 and len(train) > 4
    assert not {"0", "0 turned", "1", "1 turned"} & {level.id for level in train + validation}
    held = {level.id.split()[0] for level in validation}
    assert all(level.id.split()[0] not in held for level in train)
    shares = {level.id: held_share(level.tiles_digest) for level in own + images}
    assert all(shares[level.id] < 0.2 for level in validation), "the hash decides as before"
    left = {str(k) for k in range(2, 40)} - held
    assert {level.id.split()[0] for level in train} == left, "and only what mirrors a held-out level is left out"


def test_levels_shown_in_training_are_no_held_out_ones_in_the_mirror(monkeypatch):
    own, held_out = ([Level(some_map(k), str(k), "simple") for k in part] for part in (range(30), range(30, 60)))
    fresh = [Level(some_map(k), f"fresh {k}", "simple") for k in range(60, 70)]
    fresh += [mirrored(held_out[0]), held_out[1]]
    monkeypatch.setattr(builtin, "data_set", lambda *_, **__: fresh)
    shown = training_levels(own, held_out, True, 100, 0.0, 1, drawn_share=0.0)
    assert [level.id for level in shown if level.id.startswith("fresh")] == [f"fresh {k}" for k in range(60, 70)]
    assert len(shown) == 40
    turned = [level for level in shown if level.id.endswith("mirrored")]
    assert 5 < len(turned) < 25
    shown = training_levels(own, [*held_out, mirrored(own[0])], True, 0, 0.0, 1)  # as it is, or in the mirror
    assert [level.id.split()[0] for level in shown] == [str(k) for k in range(1, 30)]


def test_odd_files_are_named_or_passed_over(tmp_path, capsys):
    (tmp_path / "good").write_bytes(some_map())
    (tmp_path / "bad\x07\n").write_bytes(b"no level")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    for name in ("pipe", "pipe.txt", "pipe.pkl"):
        os.mkfifo(tmp_path / name)
    assert [level.id for level in load_levels(tmp_path)] == ["good"]  # which waits for nothing
    said = capsys.readouterr().err
    assert r"bad\x07\n: left out: map of 8 bytes" in said and "\x07" not in said and said.count("\n") == 2


def test_what_cannot_be_read_is_named(tmp_path, capsys, monkeypatch):
    (tmp_path / "good").write_bytes(some_map())
    (tmp_path / "levels.txt").write_bytes(b"$title#00#\n")
    open_file = texts.open_file

    def refusing(path, *more):
        if path.name == "levels.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return open_file(path, *more)

    monkeypatch.setattr(texts, "open_file", refusing)
    assert [level.id for level in load_levels(tmp_path)] == ["good"]
    assert "levels.txt: left out: cannot be read (Permission denied)" in capsys.readouterr().err


def test_levels_have_ids_of_their_own(tmp_path):
    for category in ("simple", "medium", "own"):
        write_pickle(tmp_path / category / "one.pkl", list(some_map(len(category))))
    assert [level.id for level in load_levels(tmp_path)] == ["one", "one (2)", "one (3)"]


def test_of_a_large_data_set_some_levels_are_trained_on_at_a_time(tmp_path, monkeypatch, capsys):
    own = [Level(some_map(k), str(k), "simple") for k in range(30)]
    whole = training_levels(own, [], False, 0, 0.0, 1)
    assert whole == own
    monkeypatch.setattr(datasets, "MOST_AT_ONCE", 12)
    first, again, other = (training_levels(own, [], False, 0, 0.0, seed) for seed in (1, 1, 2))
    assert first == again != other and len(first) == len(other) == 12
    assert all(sorted(part, key=own.index) == part and len(set(part)) == 12 for part in (first, other))
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        for k in range(20):
            (tmp_path / name / f"{k}").write_bytes(some_map(k + 100 * (name == "test")))
    assert len(load_split(str(tmp_path / "train"), str(tmp_path / "test"), 0.2, 0.0)[0]) == 20
    assert "20 training levels, of which 12 are drawn at each renewal" in capsys.readouterr().err


def test_split_does_not_change_between_versions():
    # The hash decides who is in a published test split, so it must stay: SHA-256 of the tile bytes, first 64 bits.
    level = Level(encode_map(np.zeros((23, 42), np.uint8), [NINJA]), "empty", "simple")
    assert level.tiles_digest == "e38ca315bf4051d113e0e964d6d12702e2253944b66bb18d7ce5ecb3e26fe773"


def test_write_atomically_leaves_nothing_half_written(tmp_path):
    target = tmp_path / "file"
    write_atomically(target, b"old")
    with pytest.raises(TypeError):
        write_atomically(target, "no bytes")
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_write_atomically_replaces_regular_files_only(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/null")
    before = sorted(tmp_path.iterdir())
    for name, message in (
        ("pipe", "regular file"),
        ("device", "regular file"),
        ("folder", "directory"),
        (".", "direc"),
    ):
        with pytest.raises(OSError, match=message) as error:
            write_atomically(tmp_path / name if name != "." else ".", b"data")
        assert name in error.value.filename
    assert sorted(tmp_path.iterdir()) == before and (tmp_path / "pipe").is_fifo() and (tmp_path / "device").is_symlink()


def test_nclone_data_set(shared, capsys):
    folder = shared / "datasets" / "nclone" / "train"
    found = load_levels(folder)
    (line,) = capsys.readouterr().err.splitlines()
    assert "repaired 143 levels with fractional" in line and "11 with a 9-byte locked door" in line
    assert len(found) == 560 and {lv.category for lv in found} == set(CATEGORIES)
    for level in found:
        types = level.entities[:, 0].tolist()
        # Bytes shifted by an unrepaired door would give types that this data set does not hold.
        assert set(types) <= {0, 1, 3, 4, 6, 7, 21} and level.map_data[1156] == types.count(3) == types.count(4) == 1
        assert types.index(4) == types.index(3) + 1
    train, test = load_levels(folder, "train"), load_levels(folder, "test")
    assert (len(train), len(test)) == (434, 126)
    assert not {lv.tiles_digest for lv in train} & {lv.tiles_digest for lv in test}


def test_records_that_create_nothing_are_counted(tmp_path, capsys):
    records = [[0, 50, 50, 0, 0], [12, 10, 10, 0, 0], [12, 11, 10, 0, 0], [255, 3, 3, 3, 3], [15, 9, 9, 0, 0]]
    records += [[1, 60, 60, 0, 0], [6, 70, 70, 0, 0], [7, 72, 70, 0, 0]]
    data = encode_map(np.zeros((23, 42), np.uint8), records)
    assert unknown_records(data) == {12: 2, 255: 1, 15: 1}
    (tmp_path / "one").write_bytes(data)
    (tmp_path / "two").write_bytes(data)
    assert len(load_levels(tmp_path)) == 2
    line = "records that create nothing here were ignored: 4 chaingun drones, 2 chaser drones, 2 of type 255"
    assert capsys.readouterr().err == f"{tmp_path}: {line}\n"


def test_mirrored_level_is_the_level_in_a_mirror():
    records = [
        NINJA,
        (1, 5, 6, 0, 0),
        (10, 7, 8, 1, 0),
        (11, 9, 8, 7, 0),
        (14, 50, 40, 2, 3),
        EXIT,
        SWITCH,
        (200, 3, 3, 9, 9),
    ]
    level = Level(some_map(3, records), "a", "simple", "title")
    image = mirrored(level)
    assert image.tiles[4, 7] == maps.MIRRORED[level.tiles[4, 41 - 7]]
    flipped = [(0, 166, 20, 4, 0), (1, 171, 6, 4, 0), (10, 169, 8, 3, 0), (11, 167, 8, 5, 0), (14, 126, 40, 2, 2)]
    flipped += [(3, 146, 20, 4, 0), (4, 156, 20, 4, 0), (200, 3, 3, 9, 9)]
    assert [tuple(record) for record in image.entities.tolist()] == flipped
    twice = mirrored(image)
    assert twice.map_data == level.map_data and image.category == "simple"
    cut = Level(level.map_data[:-3], "cut", "simple")
    assert mirrored(mirrored(cut)).map_data == cut.map_data
    off = mirrored(Level(some_map(3, [NINJA, (1, 200, 6, 0, 0), EXIT, SWITCH]), "off", "simple"))
    assert off.entities[1].tolist() == [1, 0, 6, 4, 0]


def test_the_ninja_moves_in_the_mirror_as_its_image(shared):
    """Recordings of people, played in the mirror with left and right exchanged, stay images of themselves."""
    with np.load(shared / "golden/human.npz") as golden:
        maps, inputs, paths = (
            [golden[name][a:b] for a, b in itertools.pairwise(golden[f"{offset}_offsets"])]
            for name, offset in (("maps", "map"), ("inputs", "input"), ("trajectory", "trajectory"))
        )
    same = 0
    for map_data, keys, path in zip(maps, inputs, paths, strict=True):
        image = mirrored(Level(map_data.tobytes(), "a", "simple"))
        swapped = keys & 1 | (keys & 2) << 1 | (keys & 4) >> 1
        ours, _ = simulate(image.map_data, swapped.astype(np.uint8).tobytes())
        frames = min(len(ours), len(path))
        same += np.abs(ours[:frames] * [-1, 1, -1, 1] + [1056, 0, 0, 0] - path[:frames]).max() < 1e-3
    assert same > 0.8 * len(maps), same
