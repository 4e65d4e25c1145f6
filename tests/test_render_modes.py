"""render_mode of the environments: pictures of the games as they stand, a window, and no cost where nobody looks."""

import subprocess
import sys
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pygame
import pytest
from gymnasium.utils.env_checker import check_env
from hand_made import corridor, here

from npp_rl.environment.env import NppEnv, NppVectorEnv
from npp_rl.simulator import new_state, reset_game
from npp_rl.viewing.render import Scene, draw_level

ROOT = Path(__file__).parents[1]
LEVELS = [corridor(), corridor(spawn=9, mines=[here(11)], others=[(14, here(20))])]
SEEN = ("game_state",)


@pytest.mark.parametrize("mode", ["rgb_array", "human"])
def test_gymnasiums_checker_looks_at_pictures(mode):
    env = gym.make("npp_rl/Npp-v0", levels=LEVELS, observations=SEEN, render_mode=mode)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env.unwrapped)
    assert [str(w.message) for w in caught if "infinity" not in str(w.message)] == []
    env.close()


def shows_start_of(picture, level, scale=1):
    """Whether a picture is that of the level at its start, but for samples on the edges of shapes."""
    difference = np.abs(picture.astype(int) - draw_level(level, scale)).max(-1)
    return (difference > 2).sum() < 40 * scale * scale and difference.max() < 32


@pytest.mark.parametrize("scale", [1, 2])
def test_pictures_of_a_batch(scale):
    envs = NppVectorEnv(3, LEVELS, SEEN, render_mode="rgb_array", render_scale=scale)
    envs.reset(options={"levels": [0, 1, 0]})
    pictures = envs.render()
    assert isinstance(pictures, tuple) and len(pictures) == 3
    assert all(p.shape == (600 * scale, 1056 * scale, 3) and p.dtype == np.uint8 for p in pictures)
    for picture, level in zip(pictures, (0, 1, 0), strict=True):
        assert shows_start_of(picture, LEVELS[level], scale)
    envs.step(np.array([2, 2, 0]))
    moved = envs.render()
    assert not np.array_equal(moved[0], pictures[0]) and not np.array_equal(moved[0], moved[2])
    scene = Scene(LEVELS[1].map_data, scale)
    _, state = new_state(scene.bank, 1)
    reset_game(scene.bank, state, 0, 0)
    assert np.array_equal(pictures[1], scene.picture(state, 0))


def test_a_game_that_begins_anew_is_shown_on_its_new_level():
    envs = NppVectorEnv(1, LEVELS, SEEN, max_frames=8, render_mode="rgb_array", seed=1)
    envs.reset(options={"levels": [0]})
    envs.set_level_probabilities([0, 1])
    envs._draw_starts(np.ones(1, bool))
    for _ in range(2):
        envs.step(np.array([0]))
    assert shows_start_of(envs.render()[0], LEVELS[1]) and not shows_start_of(envs.render()[0], LEVELS[0])


def test_chaser_drones_and_lasers_if_asked_for():
    made = [corridor(others=[(15, here(30), 0, 0), (23, here(34), 0, 0)])]
    pictures, frames = [], []
    for unfinished in (False, True):
        envs = NppVectorEnv(1, made, ("player_frames", "global_view"), render_mode="rgb_array", unfinished=unfinished)
        obs, _ = envs.reset()
        pictures.append(envs.render()[0])
        frames.append(obs["global_view"])
    for without, with_them in (pictures, frames):
        assert not np.array_equal(without, with_them)


def test_single_environment():
    env = NppEnv(levels=LEVELS[1:], observations=SEEN, render_mode="rgb_array", frame_skip=3)
    assert env.metadata["render_fps"] == 20 and NppEnv.metadata["render_fps"] == 15
    env.reset()
    start = env.render()
    assert start.shape == (600, 1056, 3)
    terminated = False
    while not terminated:
        _, _, terminated, _, _ = env.step(2)
    assert not np.array_equal(env.render(), start), "the end is shown, not a new start"
    blind = NppEnv(levels=LEVELS, observations=SEEN)
    blind.reset()
    assert blind.render() is None


def test_a_window_shows_the_game_after_every_step():
    env = NppEnv(levels=LEVELS, observations=SEEN, render_mode="human")
    twin = NppEnv(levels=LEVELS, observations=SEEN, render_mode="rgb_array")
    for one in (env, twin):
        one.reset(seed=3)
    for action in (2, 2, 5, 0):
        for one in (env, twin):
            one.step(action)
        shown = pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1)
        assert np.array_equal(shown, twin.render())
    assert env.render() is None
    env.close()
    assert pygame.display.get_surface() is None


def test_a_window_without_pygame_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "npp_rl.viewing.window", None)
    env = NppEnv(levels=LEVELS, observations=SEEN, render_mode="human")
    with pytest.raises(gym.error.DependencyNotInstalled, match=r'pip install "npp-rl\[play\]"'):
        env.reset()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"render_mode": "ansi"}, "render_mode is 'ansi'"),
        ({"render_mode": "human", "num_envs": 2}, "'human' for 2 games"),
        ({"render_mode": "rgb_array", "render_scale": 0}, "render_scale is 0"),
        ({"render_mode": "rgb_array", "render_scale": 1.5}, "render_scale is 1.5"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        NppVectorEnv(**{"num_envs": 1, "levels": LEVELS, "observations": SEEN, **arguments})


def test_who_does_not_look_loads_no_pillow():
    code = (
        "import sys, numpy as np; from npp_rl.environment.env import NppVectorEnv;"
        "envs = NppVectorEnv(2, observations=('game_state',)); envs.reset(); envs.step(np.zeros(2, int)); envs.close();"
        "print([name for name in ('PIL', 'pygame', 'av', 'npp_rl.viewing.render') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout == "[]\n", done.stderr
