"""What users of Gymnasium and of Stable-Baselines3 expect to work at once: defaults, wrappers, windows, training."""

import warnings

import gymnasium as gym
import numpy as np
import pygame
import pytest
from gymnasium.utils.env_checker import check_env
from hand_made import corridor, here

from npp_rl import ppo_mlp_baseline
from npp_rl.environment.env import NppEnv, NppVectorEnv
from npp_rl.environment.games import OBSERVATIONS
from npp_rl.levels.categories import CATEGORIES
from npp_rl.levels.generator import generate

NAME = "npp_rl/Npp-v0"
LEVELS = [corridor(mines=[here(11)]), corridor()]
SHORT = {"levels": LEVELS, "max_frames": 80}
RIGHT = 2


def is_image_space(space):
    """Stable-Baselines3's rule (common/preprocessing.py): uint8, three dimensions, bounds 0 and 255 everywhere."""
    if not isinstance(space, gym.spaces.Box) or len(space.shape) != 3 or space.dtype != np.uint8:
        return False
    return not (np.any(space.low != 0) or np.any(space.high != 255))


def test_the_default_observations_are_those_of_the_best_script():
    env, envs = gym.make(NAME, levels=LEVELS), gym.make_vec(NAME, num_envs=2, levels=LEVELS)
    seen = ppo_mlp_baseline.Agent.observations
    assert "arcs" in seen
    assert tuple(envs.reset(seed=0)[0]) == tuple(env.reset(seed=0)[0]) == seen
    assert set(env.observation_space) == set(envs.single_observation_space) == set(seen)


def play(env, steps=60, action=RIGHT):
    """Step a single environment, with resets -> infos of the steps that ended an episode."""
    obs, _ = env.reset(seed=1)
    ends = []
    for _ in range(steps):
        assert env.observation_space.contains(obs)
        obs, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            ends.append(info)
            obs, _ = env.reset()
    env.close()
    return ends


def test_the_recorder_of_episodes_agrees_with_ours():
    ends = play(gym.wrappers.RecordEpisodeStatistics(gym.make(NAME, **SHORT)))
    assert len(ends) > 2
    for info in ends:
        assert info["episode"]["l"] == info["outcome"]["l"]
        assert info["episode"]["r"] == pytest.approx(info["outcome"]["r"], abs=1e-9)


def test_the_recorder_of_a_batch_agrees_with_ours():
    envs = gym.make_vec(NAME, num_envs=16, **SHORT)
    envs = gym.wrappers.vector.RecordEpisodeStatistics(envs)
    envs.reset(seed=3)
    random = np.random.default_rng(0)
    episodes = 0
    for _ in range(60):
        infos = envs.step(random.integers(0, 6, 16))[4]
        if "_outcome" in infos:
            done = infos["_outcome"]
            assert np.array_equal(done, infos["_episode"])
            assert np.array_equal(infos["outcome"]["l"][done], infos["episode"]["l"][done])
            assert infos["outcome"]["r"][done] == pytest.approx(infos["episode"]["r"][done], abs=1e-9)
            episodes += done.sum()
    assert episodes > 30


@pytest.mark.parametrize(
    "wrap",
    [
        lambda env: gym.wrappers.TimeLimit(env, 7),
        gym.wrappers.NormalizeReward,
        gym.wrappers.FlattenObservation,
        lambda env: gym.wrappers.NormalizeObservation(gym.wrappers.FlattenObservation(env)),
        lambda env: gym.wrappers.FilterObservation(env, ["game_state", "arcs"]),
        lambda env: gym.wrappers.Autoreset(gym.wrappers.RecordEpisodeStatistics(env)),
        lambda env: gym.wrappers.ClipReward(gym.wrappers.RecordEpisodeStatistics(env), -1, 1),
    ],
)
def test_wrappers_of_one_game(wrap):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        play(wrap(gym.make(NAME, **SHORT)))


@pytest.mark.parametrize(
    "wrap",
    [
        gym.wrappers.vector.NormalizeReward,
        gym.wrappers.vector.DictInfoToList,
        lambda envs: gym.wrappers.vector.ClipReward(gym.wrappers.vector.RecordEpisodeStatistics(envs), -1, 1),
    ],
)
def test_wrappers_of_a_batch(wrap):
    envs = wrap(gym.make_vec(NAME, num_envs=3, **SHORT))
    obs, _ = envs.reset(seed=0)
    for _ in range(30):
        assert envs.observation_space.contains(obs)
        obs, *_ = envs.step(np.full(3, RIGHT))
    envs.close()


def test_gymnasiums_video_recorder(tmp_path):
    pytest.importorskip("moviepy", reason="RecordVideo writes with moviepy")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of moviepy
        play(gym.wrappers.RecordVideo(gym.make(NAME, **SHORT, render_mode="rgb_array"), str(tmp_path)), 12)
    assert list(tmp_path.glob("*.mp4"))


def test_gymnasiums_checker_takes_the_defaults():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(gym.make(NAME, levels=LEVELS).unwrapped)
    assert [str(w.message) for w in caught if "infinity" not in str(w.message)] == []


def test_only_pictures_are_images_to_stable_baselines():
    spaces = NppEnv(levels=LEVELS, observations=tuple(OBSERVATIONS)).observation_space
    images = {name for name, space in spaces.items() if is_image_space(space)}
    assert images == {"player_frames", "global_view"}
    for name in images:
        assert min(spaces[name].shape[1:]) >= 36  # what the CNN there needs


def test_the_bound_that_says_so_holds():
    """The middle of the patch is the node under the ninja, whose way is the ninja's own within a few px."""
    levels = [generate(category, 500 + k) for k, category in enumerate(CATEGORIES)]
    envs = NppVectorEnv(64, [*levels, *LEVELS], ("local_tiles",), seed=0)
    (space,) = envs.observation_space.values()
    assert np.unique(space.low, return_counts=True)[1].tolist() == [64 * (3 * 15 * 15 - 1), 64]
    envs.reset()
    random = np.random.default_rng(1)
    least = 255
    for _ in range(150):
        actions = np.repeat(random.integers(0, 6, 16), 4)
        obs, *_, infos = envs.step(actions)
        least = min(least, obs["local_tiles"][:, 2, 7, 7].min())
        if "_final_obs" in infos:
            least = min(least, infos["final_obs"]["local_tiles"][infos["_final_obs"], 2, 7, 7].min())
    assert least >= 90


@pytest.mark.parametrize("asked", [{}, {"observations": ("game_state", "player_frames", "global_view")}])
def test_stable_baselines_trains(asked):
    stable_baselines3 = pytest.importorskip("stable_baselines3", reason="no dependency of this project")
    env = gym.make(NAME, **SHORT, **asked)
    model = stable_baselines3.PPO("MultiInputPolicy", env, n_steps=32, batch_size=16, n_epochs=1, device="cpu", seed=0)
    model.learn(64)
    assert model.num_timesteps == 64 and model.ep_info_buffer


def test_a_closed_window_closes_the_environment_and_says_so():
    env = gym.make(NAME, levels=LEVELS, render_mode="human")
    env.reset(seed=0)
    env.step(RIGHT)
    pygame.event.post(pygame.event.Event(pygame.QUIT))
    with pytest.raises(gym.error.ClosedEnvironmentError, match=r"^the window was closed, and with it the environment"):
        env.step(RIGHT)
    assert pygame.display.get_surface() is None
    for again, what in ((lambda: env.step(RIGHT), "step"), (env.reset, "reset")):
        with pytest.raises(gym.error.ClosedEnvironmentError, match=f"{what} after close"):
            again()
    env.close()
