import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from calls import call

from npp_rl.levels import replays
from npp_rl.levels.maps import encode_map
from npp_rl.levels.replays import Args, encode_replay, main, read_replays, validate, write_replay
from npp_rl.simulator import simulate

RIGHT, LEFT = b"\2", b"\4"
# The floor is at y = 240; the ninja (radius 10) starts 2 px above it, at x = 60.
NINJA, SWITCH_X, EXIT_X = (0, 10, 38, 0, 0), 14, 20


def corridor(*more):
    """A corridor with the switch and then the exit door to the right of the ninja."""
    tiles = np.ones((23, 42), np.uint8)
    tiles[6:9, 0:30] = 0
    return encode_map(tiles, [NINJA, (3, EXIT_X, 38, 0, 0), (4, SWITCH_X, 38, 0, 0), *more])


def winning_inputs(map_data=None):
    _, states = simulate(map_data or corridor(), RIGHT * 300)
    assert states[-1] == 8
    return RIGHT * len(states)


def verdict_of(tmp_path, data, name="a.replay"):
    file = tmp_path / name
    file.write_bytes(data)
    (replay,) = read_replays(file)
    return validate(replay)


def test_won_died_unfinished(tmp_path):
    inputs = winning_inputs()
    won = verdict_of(tmp_path, encode_replay(corridor(), inputs, True))
    assert (won.verdict, won.frames, won.reason, won.replay.format) == ("won", len(inputs), "", "compact 1")
    assert (won.replay.map_data, won.replay.inputs, won.replay.recorded_success) == (corridor(), inputs, True)

    unfinished = verdict_of(tmp_path, encode_replay(corridor(), inputs[:-1], True))
    assert (unfinished.verdict, unfinished.frames) == ("unfinished", len(inputs) - 1)
    assert unfinished.reason == "recorded as won"

    mined = corridor((1, 17, 38, 0, 0))
    _, states = simulate(mined, inputs)
    died = verdict_of(tmp_path, encode_replay(mined, inputs, False))
    assert (died.verdict, died.frames) == ("died", len(states))
    assert 1 < len(states) < len(inputs) and died.reason == f"dead in frame {len(states)} of {len(inputs)}"


def test_win_with_inputs_left_over_is_not_valid(tmp_path):
    inputs = winning_inputs()
    verdict = verdict_of(tmp_path, encode_replay(corridor(), inputs + b"\0\0", True))
    n = len(inputs)
    assert verdict.verdict == "broken" and verdict.reason == f"won in frame {n} of {n + 2}, with inputs left over"
    assert verdict.repaired.verdict == "won" and verdict.repaired.replay.inputs == inputs


def test_compact_version_0(tmp_path):
    inputs = winning_inputs()
    data = struct.pack("<II", len(corridor()), len(inputs)) + corridor() + inputs
    verdict = verdict_of(tmp_path, data)
    assert (verdict.verdict, verdict.replay.format, verdict.replay.recorded_success) == ("won", "compact 0", None)


@pytest.mark.parametrize("version", [0, 1])
def test_map_without_its_first_byte(tmp_path, version):
    inputs, map_data = winning_inputs(), corridor()
    head = struct.pack("<II", len(map_data), len(inputs))
    data = (struct.pack("<I", 1) + head + b"\1" if version else head) + map_data[1:] + inputs
    verdict = verdict_of(tmp_path, data)
    assert verdict.verdict == "broken" and "one byte short" in verdict.reason
    assert verdict.repaired.verdict == "won" and verdict.repaired.replay.map_data == map_data
    assert verdict.repaired.replay.inputs == inputs


def test_locked_door_of_nine_bytes(tmp_path):
    tiles = np.ones((23, 42), np.uint8)
    tiles[6:9, 0:30] = 0
    records = [NINJA, (6, 60, 60, 0, 0), (7, 60, 60, 0, 0), (3, EXIT_X, 38, 0, 0), (4, SWITCH_X, 38, 0, 0)]
    map_data = encode_map(tiles, records)
    inputs = winning_inputs(map_data)
    short = map_data[: 1235 + 9] + map_data[1235 + 10 :]
    verdict = verdict_of(tmp_path, encode_replay(short, inputs, True))
    assert verdict.verdict == "broken" and "locked door of 9 bytes" in verdict.reason
    assert verdict.repaired.verdict == "won" and verdict.repaired.replay.map_data == map_data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes, too short for a replay"),
        (b"\1\0\0\0", "4 bytes, too short for a replay"),
        (encode_replay(corridor(), RIGHT * 9, True)[:-2], "1265 bytes, the header says 13 + 1245 + 9"),
        (encode_replay(corridor(), RIGHT * 9, True) + b"\0", "1268 bytes, the header says 13 + 1245 + 9"),
        (encode_replay(corridor(), b"", True), "no inputs"),
        (b"\2" + encode_replay(corridor(), RIGHT, True)[1:], "starts with 2, neither a version (1) nor a map's length"),
        (struct.pack("<3IB", 1, 1245, 1, 7) + corridor() + RIGHT, "success flag 7, expected 0 or 1"),
        (encode_replay(bytes(1000), RIGHT, True), "map of 1000 bytes: expected at least 1233"),
        (encode_replay(corridor()[:-2], RIGHT, True), "map of 1243 bytes, expected 1230 + 5 per entity"),
        (encode_replay(corridor((11, 1, 1, 9, 0)), RIGHT, True), "record 3 at byte 1245 (one-way platform)"),
        (b"\xff" * 50, "the header says"),
        (zlib.compress(b"\2" * 500)[:-3], "zlib stream is cut"),
        (zlib.compress(b"\2" * 500), "its map, expected beside it as map_data, cannot be read"),
    ],
)
def test_broken_files(tmp_path, data, reason):
    verdict = verdict_of(tmp_path, data)
    assert verdict.verdict == "broken" and reason in verdict.reason
    assert verdict.repaired is None and "\n" not in verdict.reason


def attract_file(map_data, inputs):
    """As PHYSICS.md 9.2: the map block's offsets count from the start of the file."""
    demo = len(inputs) + 30
    head = struct.pack("<5I", len(map_data) - 8, demo, 7, 0, 1) + bytes(18)
    block = b"\0" + struct.pack("<5I", demo, 1, len(inputs), 7, 0) + bytes(4) + b"\1" + b"\xff" * 4
    assert len(block) == 30
    return head + b"title".ljust(146, b"\0") + map_data[184:] + block + inputs


def test_attract_file(tmp_path):
    inputs = winning_inputs()
    verdict = verdict_of(tmp_path, attract_file(corridor(), inputs), "12")
    assert (verdict.verdict, verdict.replay.format, verdict.replay.title) == ("won", "attract", "title")
    assert verdict.replay.map_data[184:] == corridor()[184:] and verdict.replay.inputs == inputs
    restarted = verdict_of(tmp_path, attract_file(corridor(), inputs[:20] + b"\x08\x08"), "12")
    assert (restarted.verdict, restarted.reason) == ("unfinished", "restarted by the player")
    for cut in (1, 40, 900):
        broken = verdict_of(tmp_path, attract_file(corridor(), inputs)[:-cut], "12")
        assert (broken.verdict, broken.replay.format) == ("broken", "attract")
        assert "the header says 8 + 1237 + " in broken.reason


def test_compressed_inputs_with_their_map(tmp_path):
    inputs = winning_inputs()
    (tmp_path / "map_data").write_bytes(corridor())
    for k in range(2):
        (tmp_path / f"inputs_{k}").write_bytes(zlib.compress(inputs[: len(inputs) - k]))
    assert [v.verdict for v in replays.validate_files([tmp_path])] == ["won", "unfinished"]


def test_compressed_episode_replaces_single_levels(tmp_path):
    inputs = winning_inputs()
    for k in range(5):
        (tmp_path / f"map_data_{k}").write_bytes(corridor())
    (tmp_path / "inputs_0").write_bytes(zlib.compress(inputs))
    (tmp_path / "inputs_episode").write_bytes(zlib.compress(b"&".join([inputs] * 4 + [inputs[:5]])))
    found = replays.validate_files([tmp_path])
    assert [v.verdict for v in found] == ["won"] * 4 + ["unfinished"]
    assert [v.replay.part for v in found] == ["0", "1", "2", "3", "4"]
    (tmp_path / "inputs_episode").write_bytes(zlib.compress(b"&".join([inputs] * 4)))
    assert replays.validate_files([tmp_path])[0].reason == "4 runs, expected 5 separated by '&'"


def test_no_file_content_raises():
    """Every prefix and many damaged versions of each format get a verdict."""
    rng = np.random.default_rng(0)
    samples = [
        encode_replay(corridor(), RIGHT * 20, True),
        struct.pack("<II", len(corridor()), 20) + corridor() + RIGHT * 20,
        attract_file(corridor(), RIGHT * 20),
        zlib.compress(RIGHT * 20),
    ]
    folder = Path("/nowhere")
    seen = set()
    for sample in samples:
        for trial in range(300):
            data = bytearray(sample[: rng.integers(0, len(sample) + 1)] if trial % 2 else sample)
            for at in rng.integers(0, max(len(data), 1), 3):
                at = at % 40 if trial % 3 == 0 else at
                if at < len(data):
                    data[at] = rng.integers(0, 256)
            for replay in replays.parse_replays(folder / "x", bytes(data)):
                seen.add(validate(replay).verdict)
    assert {"broken", "unfinished"} <= seen


def test_write_and_read_again(tmp_path):
    inputs = winning_inputs()
    write_replay(tmp_path / "r.replay", corridor(), inputs, True)
    assert (tmp_path / "r.replay").read_bytes() == b"\1\0\0\0" + struct.pack("<II", 1245, len(inputs)) + b"\1" + (
        corridor() + inputs
    )
    (verdict,) = replays.validate_files([tmp_path])
    assert verdict.verdict == "won"
    assert (verdict.replay.map_data, verdict.replay.inputs) == (corridor(), inputs)


def test_command(tmp_path, capsys):
    inputs = winning_inputs()
    folder = tmp_path / "replays"
    folder.mkdir()
    write_replay(folder / "a.replay", corridor(), inputs, True)
    write_replay(folder / "b.replay", corridor(), inputs + b"\0", True)
    (folder / "c.replay").write_bytes(b"")
    (folder / "notes.txt").write_text("no replay")
    report = tmp_path / "report.json"
    main(Args((str(folder),), report))
    out = capsys.readouterr().out
    assert "3 replays: 1 won, 0 died, 0 unfinished, 2 broken (after repair: 1 won)" in out
    content = json.loads(report.read_text())
    assert content["counts"] == {"won": 1, "died": 0, "unfinished": 0, "broken": 2}
    a, b, c = content["replays"]
    assert (a["verdict"], a["frames"], a["repaired"]) == ("won", len(inputs), None)
    assert (b["verdict"], b["repaired"]["verdict"], b["repaired"]["inputs"]) == ("broken", "won", len(inputs))
    assert c["reason"] == "0 bytes, too short for a replay"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{}/missing"], "missing: no such file or folder, expected replays"),
        (["{}"], "no replay in this folder"),
        ([], "FOLDER_OR_FILE: expected replay files"),
        (["{}", "--nonsense"], "--nonsense"),
    ],
)
def test_command_with_bad_arguments(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as end:
        call(replays, *(a.format(tmp_path) for a in arguments))
    out, err = capsys.readouterr()
    assert end.value.code == 2 and out == ""
    assert err.startswith("error: ") and message in err and err.count("\n") == 1


def test_command_cannot_write(tmp_path, capsys):
    write_replay(tmp_path / "a.replay", corridor(), RIGHT, False)
    with pytest.raises(SystemExit) as end:
        call(replays, tmp_path, "--json", tmp_path / "missing" / "x.json")
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/missing/x.json: No such file or directory\n"


def test_human_replays(shared):
    verdicts = {v.replay.path.name: v for v in replays.validate_files([shared / "replays" / "human"])}
    assert len(verdicts) == 90
    odd = {name: v for name, v in verdicts.items() if v.verdict != "won"}
    assert all(v.frames == len(v.replay.inputs) for v in verdicts.values() if v.verdict == "won")
    assert {
        (name[:15], name[-13:-7], v.verdict, v.repaired and (v.repaired.verdict, v.repaired.frames))
        for name, v in odd.items()
    } == {
        ("20251022_151333", "100001", "broken", ("won", 138)),
        ("20251023_095301", "100001", "broken", ("won", 274)),
        ("20251023_153053", "100024", "broken", ("won", 79)),
        ("20251023_153100", "100029", "broken", ("won", 78)),
        ("20251023_113733", "100004", "died", None),
    }
    died = odd["20251023_113733_train_simple_100004.replay"]
    assert (died.frames, len(died.replay.inputs)) == (374, 754)
    assert all(v.reason for v in odd.values())
    assert sum((v.repaired or v).verdict == "won" for v in verdicts.values()) == 89


# PHYSICS.md Appendix C: frames, state 6 or not, gold.
ATTRACT = {
    "0": (471, "died", 11),
    "2": (724, "unfinished", 34),
    "3": (124, "unfinished", 9),
    "5": (441, "unfinished", 7),
    "6": (407, "unfinished", 4),
    "8": (210, "unfinished", 18),
    "9": (861, "unfinished", 23),
    "11": (72, "died", 0),
    "12": (1548, "died", 16),
    "14": (150, "died", 3),
    "15": (166, "unfinished", 7),
    "17": (237, "died", 0),
    "18": (418, "unfinished", 8),
    "25": (1322, "died", 6),
    "625": (697, "died", 3),
}


def test_attract_files(shared):
    verdicts = replays.validate_files([shared / "replays" / "attract"])
    assert {v.replay.path.name: (v.frames, v.verdict, v.gold) for v in verdicts} == ATTRACT
    assert all(v.frames == len(v.replay.inputs) and v.replay.title for v in verdicts)
    assert {v.reason for v in verdicts if v.verdict == "unfinished"} == {"restarted by the player"}
