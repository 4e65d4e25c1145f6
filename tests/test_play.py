"""Playing in a window that is not shown: scripted keys, recordings, replays, agents, the level browser, screenshots."""

import itertools
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pygame
import pytest
import torch
from calls import call
from hand_made import CORRIDOR, corridor, here, level
from PIL import Image

from npp_rl import play as play_command
from npp_rl import ppo_mlp_baseline
from npp_rl.environment.games import OBSERVATIONS
from npp_rl.levels.maps import Level
from npp_rl.levels.replays import encode_replay, validate_files
from npp_rl.play import Args, main
from npp_rl.simulator import DEAD, WON, new_state, reset_game, simulate
from npp_rl.simulator import play as play_frames
from npp_rl.training import checkpoints
from npp_rl.viewing import browser, player
from npp_rl.viewing.browser import browse
from npp_rl.viewing.player import PANEL, Game, input_byte
from npp_rl.viewing.render import Scene
from npp_rl.viewing.window import Closed, Window

ROOT = Path(__file__).parents[1]
EASY = corridor(spawn=5, switch=12, door=20, name="easy", others=[(2, here(8))])
MINED = corridor(spawn=5, mines=[here(8)], name="mined")
MOVING = level(CORRIDOR, here(3), [(here(30), here(12))], others=[(14, here(40)), (25, here(38))], name="moving")


def down(key, unicode=""):
    return pygame.event.Event(pygame.KEYDOWN, key=key, unicode=unicode)


def up(key):
    return pygame.event.Event(pygame.KEYUP, key=key)


def typed(text):
    return [down(ord(letter), letter) for letter in text]


CLOSE = pygame.event.Event(pygame.QUIT)


@pytest.fixture
def script(monkeypatch):
    """Function (dict picture -> events): what comes in with each picture, counted from 0."""

    def give(events):
        numbers = iter(range(10**6))
        monkeypatch.setattr(pygame.event, "get", lambda: events.get(next(numbers), []))

    return give


@pytest.fixture
def folder(tmp_path):
    """A data set of three levels."""
    (tmp_path / "levels").mkdir()
    for made in (EASY, MINED, MOVING):
        (tmp_path / "levels" / made.id).write_bytes(made.map_data)
    return tmp_path / "levels"


def end_of(made, inputs, scale=1):
    """The picture after these inputs."""
    scene = Scene(made.map_data, scale)
    _, state = new_state(scene.bank, 1)
    reset_game(scene.bank, state, 0, 0)
    play_frames(scene.bank, state, 0, np.frombuffer(inputs, np.uint8), np.zeros((999, 4)), np.zeros(999, np.uint8))
    return scene.picture(state, 0)


def test_a_played_level_is_won_and_recorded(folder, tmp_path, script):
    frames = len(simulate(EASY.map_data, bytes([2]) * 999)[0])
    script({0: [down(pygame.K_RIGHT)], frames + 3: [CLOSE]})
    main(Args(str(folder), "easy", tmp_path / "runs"))
    (verdict,) = validate_files([tmp_path / "runs"])
    assert (verdict.verdict, verdict.frames, verdict.reason, verdict.gold) == ("won", frames, "", 1)
    assert verdict.replay.path.name == f"easy__won_{frames}.replay"
    assert verdict.replay.inputs == bytes([2]) * frames and verdict.replay.map_data == EASY.map_data
    assert verdict.replay.recorded_success


def test_keys_held_and_tapped_are_the_inputs_of_their_frames(folder, tmp_path, script):
    """A jump pressed and released between two pictures counts for one frame; left beats right."""
    events = {
        0: [down(pygame.K_d)],
        10: [down(pygame.K_z), up(pygame.K_z)],
        20: [down(pygame.K_SPACE)],
        25: [up(pygame.K_SPACE), down(pygame.K_LEFT)],
        27: [up(pygame.K_LEFT)],
        30: [up(pygame.K_d)],
        31: [down(pygame.K_RIGHT)],
    }
    expected = bytes([2] * 10 + [3] + [2] * 9 + [3] * 5 + [4] * 2 + [2] * 3 + [0] + [2] * 300)
    frames = len(simulate(MINED.map_data, expected)[0])
    assert 31 < frames < 300 and simulate(MINED.map_data, expected)[1][-1] == DEAD
    script(events | {frames + 2: [CLOSE]})
    main(Args(str(folder), "mined", tmp_path / "runs"))
    (verdict,) = validate_files([tmp_path / "runs"])
    assert (verdict.verdict, verdict.frames, verdict.reason) == ("died", frames, "")
    assert verdict.replay.inputs == expected[:frames] and verdict.replay.recorded_success is False


@pytest.mark.parametrize(
    ("keys", "byte"),
    [
        ((), 0),
        ((pygame.K_a,), 4),
        ((pygame.K_LEFT, pygame.K_RIGHT), 4),
        ((pygame.K_d, pygame.K_w), 3),
        ((pygame.K_UP,), 1),
        ((pygame.K_LEFT, pygame.K_SPACE), 5),
        ((pygame.K_x,), 0),
    ],
)
def test_input_byte(keys, byte):
    assert input_byte(frozenset(keys)) == byte


def test_restart_next_level_and_only_won_games_recorded(folder, tmp_path, script):
    """Dies on `mined`, goes back to `easy` (P), restarts halfway and wins, twice."""
    death = len(simulate(MINED.map_data, bytes([2]) * 999)[0])
    win = len(simulate(EASY.map_data, bytes([2]) * 999)[0])
    back = death + 5
    again = back + 20
    third = again + win + 5
    script(
        {
            0: [down(pygame.K_RIGHT)],
            back: [down(pygame.K_p)],
            again: [down(pygame.K_r)],
            third: [down(pygame.K_RETURN)],
            third + win + 5: [CLOSE],
        }
    )
    main(Args(str(folder), "mined", tmp_path / "runs", record_won_only=True))
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == [f"easy__won_{win}.replay", f"easy__won_{win}_2.replay"]
    assert [verdict.verdict for verdict in validate_files([tmp_path / "runs"])] == ["won", "won"]


def test_keys_are_let_go_when_the_window_loses_the_focus(script):
    script({0: [down(pygame.K_RIGHT)], 2: [pygame.event.Event(pygame.WINDOWFOCUSLOST)]})
    window = Window(40, 30, "test")
    held = []
    for _ in range(4):
        window.show(np.zeros((30, 40, 3), np.uint8))
        held.append(set(window.held))
    window.close()
    assert held == [{pygame.K_RIGHT}, {pygame.K_RIGHT}, set(), set()]


def test_pictures_come_at_a_steady_pace(script):
    script({})
    window = Window(40, 30, "test")
    window.paced = True
    times = []
    for k in range(31):
        window.show(np.full((30, 40, 3), k, np.uint8), fps=120)
        times.append(time.perf_counter())
    window.close()
    # The clock keeps to its beat, so that after a picture that was late the next one comes sooner.
    assert 28 / 120 < times[-1] - times[0] < 40 / 120 and 0.8 / 120 < np.median(np.diff(times)) < 1.2 / 120


def test_going_back_is_exact():
    """From any frame to any earlier one: the same bytes as if the frames in between had not been."""
    inputs = bytes(np.random.default_rng(0).integers(0, 8, 200, np.uint8))
    game, states = Game(MOVING, 1), []
    for key in inputs:
        states.append(game.rows.copy())
        game.advance(key)
    for frame in (200, 180, 179, 121, 120, 119, 60, 59, 1, 0):
        game.go_back(frame)
        assert len(game.inputs) == frame
        assert frame == 200 or np.array_equal(game.rows, states[frame]), frame
    for key in inputs[:100]:
        game.advance(key)
    assert np.array_equal(game.rows, states[100])
    game.go_back(-5)
    assert np.array_equal(game.rows, states[0])


@pytest.fixture
def replay(tmp_path):
    """A replay that is won, and its inputs."""
    inputs = bytes([2]) * len(simulate(EASY.map_data, bytes([2]) * 999)[0])
    (tmp_path / "won.replay").write_bytes(encode_replay(EASY.map_data, inputs, True))
    return tmp_path / "won.replay", inputs


def field_of(path):
    """The game's part of a screenshot."""
    with Image.open(path) as image:
        picture = np.asarray(image)
    scale = picture.shape[1] // 1056
    assert picture.shape == ((600 + PANEL) * scale, 1056 * scale, 3)
    return picture[: 600 * scale]


@pytest.mark.parametrize("scale", [1, 2])
def test_a_watched_replay_ends_as_the_simulator_says(replay, tmp_path, scale):
    path, inputs = replay
    frames = len(inputs) + 10
    shot = tmp_path / "shot.png"
    main(Args(replay=path, screenshot=shot, frames=frames, scale=scale))
    assert simulate(EASY.map_data, inputs)[1][-1] == WON
    assert np.array_equal(field_of(shot), end_of(EASY, inputs, scale))


def test_pause_step_speed_and_rewind(replay, tmp_path, script):
    """30 frames; paused: 3 on, 1 back; rewound by 5 pictures; then at double speed for 6 pictures."""
    path, inputs = replay
    shot = tmp_path / "shot.png"
    events = {30: [down(pygame.K_SPACE)]}
    events |= {k: [down(pygame.K_RIGHT)] for k in (32, 33, 35)} | {40: [down(pygame.K_LEFT)]}
    cases = [(31, 30), (60, 32)]
    events |= {70: [down(pygame.K_BACKSPACE)], 75: [up(pygame.K_BACKSPACE)]}
    cases += [(80, 32 - 5 * player.REWIND)]
    events |= {90: [down(pygame.K_UP)], 91: [down(pygame.K_SPACE)]}
    cases += [(98, 12 + 2 * 6)]
    for pictures, frame in cases:
        script(events)
        main(Args(replay=path, screenshot=shot, frames=pictures))
        assert np.array_equal(field_of(shot), end_of(EASY, inputs[:frame])), (pictures, frame)


def test_bad_replays(tmp_path, capsys):
    (tmp_path / "cut.replay").write_bytes(encode_replay(EASY.map_data, b"\2" * 9, True)[:-5])
    for arguments, message in (
        (["--replay", str(tmp_path / "cut.replay")], "cut.replay: "),
        (["--replay", str(tmp_path / "none.replay")], "none.replay: cannot be read"),
        (["--replay", "x", "--checkpoint", "y"], "--checkpoint: not together with --replay"),
        (["--level", "simplest/none"], "--level simplest/none: not in builtin"),
        (["--dataset", str(tmp_path / "nowhere")], "nowhere: no such folder"),
        (["--checkpoint", str(tmp_path / "none.pt")], "none.pt: no such checkpoint"),
        (["--scale", "0"], "--scale 0: expected 1 to 16"),
        (["--frames", "many"], "--frames"),
        (["--colour", "red"], "--colour"),
        (["--record", str(tmp_path / "cut.replay" / "x")], "cut.replay"),
    ):
        with pytest.raises(SystemExit) as stopped:
            call(play_command, *arguments)
        said = capsys.readouterr().err
        assert stopped.value.code == 2 and said.startswith("error: ") and said.count("\n") == 1, said
        assert message in said


def test_a_full_disk_costs_the_recording_not_the_game(tmp_path):
    game = Game(MINED, 1)
    while not game.over:
        game.advance(2)
    assert player.record_game(game, tmp_path, won_only=True) == ""
    assert player.record_game(game, tmp_path / "gone", won_only=False).startswith("not recorded: No such file")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def window():
    made = Window(1056, 600 + PANEL, "test")
    yield made
    made.close()


def test_browser(window, script):
    levels = [Level(EASY.map_data, f"{name}_{k}", name, f"title {k}") for name in ("simple", "mine") for k in range(30)]
    R, L, D, U = pygame.K_RIGHT, pygame.K_LEFT, pygame.K_DOWN, pygame.K_UP
    enter, tab, esc, rub = pygame.K_RETURN, pygame.K_TAB, pygame.K_ESCAPE, pygame.K_BACKSPACE

    def chosen(*keys, at=0):
        events = [key if isinstance(key, pygame.event.EventType) else down(key) for key in keys]
        script({k: [event] for k, event in enumerate(events)} | {len(events) + 1: [CLOSE]})
        return browse(window, levels, 1, at)

    assert chosen(enter) == 0
    assert chosen(enter, at=41) == 41
    assert chosen(R, R, D, enter) == 2 + browser.COLUMNS
    assert chosen(R, L, D, D, U, enter) == browser.COLUMNS
    assert chosen(pygame.K_PAGEDOWN, pygame.K_PAGEDOWN, pygame.K_PAGEDOWN, pygame.K_PAGEDOWN, enter) == 59
    assert chosen(*typed("mine_7"), enter) == 37
    assert chosen(*typed("title 7 mine"), enter) == 37
    assert chosen(*typed("minex"), down(rub), enter) == 30
    assert chosen(*typed("mine"), down(esc), enter) == 0
    assert chosen(tab, D, D, tab, R, enter) == 31
    assert chosen(L, D, D, enter, R, enter) == 31, "left of the first column are the categories"
    assert chosen(esc) is None
    with pytest.raises(Closed):
        chosen(*typed("nothing fits"), enter)


def test_browser_shows_thumbnails_and_the_choice(window, script):
    levels = [Level(made.map_data, made.id, "c") for made in (EASY, MINED, MOVING) * 8]
    shown = []
    window.show = lambda picture: shown.append(picture) if len(shown) < 30 else window_closed()
    script({})
    with pytest.raises(Closed):
        browse(window, levels, 1)
    changes = [not np.array_equal(a, b) for a, b in itertools.pairwise(shown)]
    assert sum(changes) == 15 and not any(changes[15:]), "a thumbnail a picture, then nothing is drawn anew"
    assert (shown[-1][60:170, 208:408] == (216, 218, 224)).all(-1).any()


def window_closed():
    raise Closed


def checkpoint(path, frame_skip=4):
    """A small agent that always runs to the right."""
    args = ppo_mlp_baseline.Args(size="small", **ppo_mlp_baseline.SIZES["small"])
    shapes = {name: OBSERVATIONS[name][0] for name in ppo_mlp_baseline.Agent.observations}
    torch.manual_seed(0)
    agent = ppo_mlp_baseline.Agent(shapes, args)
    with torch.no_grad():
        agent.actor.bias[2] = 5.0
    content = {
        "architecture": "mlp_baseline",
        "args": {"size": "small", "frame_skip": frame_skip, "gamma": 0.99, **ppo_mlp_baseline.SIZES["small"]},
        "observation_shapes": {name: list(shape) for name, shape in shapes.items()},
        "agent": agent.state_dict(),
    }
    checkpoints.save(path, content)
    return str(path)


@pytest.mark.parametrize(("pictures", "frame"), [(1, 0), (31, 30), (400, 999)])
def test_an_agent_is_watched(folder, tmp_path, pictures, frame):
    saved, shot = checkpoint(tmp_path / "best.pt", frame_skip=3), tmp_path / "shot.png"
    main(Args(str(folder), "easy", checkpoint=(saved,), screenshot=shot, frames=pictures))
    assert np.array_equal(field_of(shot), end_of(EASY, bytes([2]) * frame))
    with Image.open(shot) as image:
        panel = np.asarray(image)[600:]
    bar = (panel[46, 12 + 2 * 128 : 12 + 2 * 128 + 114] == player.GOLD_SHINE).all(-1)
    # exp(5) against five times about 1
    assert bar.sum() == 0 if pictures == 1 else 0.9 < bar.mean() < 1.0


def test_an_exported_agent_is_watched_by_its_name(folder, tmp_path, monkeypatch):
    from npp_rl import export

    export.main(export.Args(checkpoint(tmp_path / "best.pt"), str(tmp_path / "zoo/mine"), onnx=False))
    monkeypatch.setenv("NPP_ZOO", str(tmp_path / "zoo"))
    shots = tmp_path / "one.png", tmp_path / "two.png"
    for given, shot in zip(("zoo:mine", str(tmp_path / "zoo/mine")), shots, strict=True):
        main(Args(str(folder), "easy", checkpoint=(given,), screenshot=shot, frames=31))
        assert np.array_equal(field_of(shot), end_of(EASY, bytes([2]) * 30))


def test_sampled_actions_depend_on_the_seed(folder, tmp_path):
    saved, shots = checkpoint(tmp_path / "best.pt"), []
    with torch.no_grad():  # as likely as not
        content = checkpoints.load(saved)
        content["agent"]["actor.bias"].zero_()
        checkpoints.save(saved, {key: value for key, value in content.items() if key != "format"})
    for seed in (1, 1, 2):
        shot = tmp_path / "shot.png"
        args = Args(str(folder), "moving", checkpoint=(saved,), sampled=True, seed=seed, screenshot=shot, frames=60)
        main(args)
        shots.append(field_of(shot).tobytes())
    assert shots[0] == shots[1] != shots[2]


def test_without_pygame_it_names_the_extra():
    code = "import sys, runpy; sys.modules['pygame'] = None; runpy.run_module('npp_rl.play', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (2, 'error: playing needs pygame: pip install "npp-rl[play]"\n')


def test_the_command(tmp_path):
    shot = tmp_path / "shot.png"
    words = [sys.executable, "-m", "npp_rl.play", "--screenshot", str(shot), "--frames", "3"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    with Image.open(shot) as image:
        assert image.size == (1056, 600 + PANEL)
