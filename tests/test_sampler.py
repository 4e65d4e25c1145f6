"""Which levels games begin on: draws, tries, levels that are won sometimes, renewals."""

from types import SimpleNamespace

import numpy as np
import pytest

from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.sampler import MEMORY, REFRESH, LevelSampler
from npp_rl.levels import datasets
from npp_rl.levels.generator import generate
from npp_rl.levels.maps import Level, mirrored
from npp_rl.training import episodes
from npp_rl.training.episodes import begin_envs


def note(sampler, level, wins, losses):
    for won in [True] * wins + [False] * losses:
        sampler.note(np.array([level]), np.array([won]))


def test_half_of_the_draws_are_levels_that_are_won_sometimes():
    """Of eight levels the two whose share is nearest to a half; the rest share the other draws."""
    sampler = LevelSampler(["one"] * 8, 0.5, seed=1)
    for level, (wins, losses) in enumerate([(9, 0), (0, 9), (4, 5), (8, 1), (5, 4), (1, 8), (9, 0), (0, 9)]):
        note(sampler, level, wins, losses)
    sampler.refresh()
    expected = np.full(8, 0.5 / 8)
    expected[[2, 4]] += 0.25
    assert sampler.probabilities == pytest.approx(expected)
    drawn = np.bincount(sampler.draw(8000), minlength=8) / 8000
    assert drawn == pytest.approx(expected, abs=0.025)  # 4.5 standard deviations


def test_late_tries_count_more_than_early_ones():
    sampler = LevelSampler(["one", "one"], 0.5, seed=1)
    sampler.note(np.array([0, 1, 0]), np.array([True, False, False]))  # level 0 twice at once
    # Both tries of level 0 fade twice, since their order within a step is not known.
    assert sampler.tries[:, 1].tolist() == [1.0, 0.0]
    sampler.note(np.array([1]), np.array([True]))
    assert sampler.tries[:, 1] == pytest.approx([MEMORY + 1, 1.0])
    note(sampler, 1, 0, 200)
    assert sampler.tries[0, 1] == pytest.approx(1 / (1 - MEMORY)) and sampler.tries[1, 1] < 1e-8


def test_a_level_without_tries_takes_its_categorys_share():
    """Eight levels in two categories, one of them won in half of the tries: its untried level is drawn more often."""
    sampler = LevelSampler([*["hard"] * 4, *["fair"] * 4], 0.8, seed=1)
    for level in range(3):
        note(sampler, level, 0, 20)
        note(sampler, 4 + level, 10, 10)
    sampler.refresh()
    assert sampler.probabilities[7] == pytest.approx(0.2 / 8 + 0.8 / 2)
    assert sampler.probabilities[3] == pytest.approx(0.2 / 8)


def test_without_learnability_all_levels_are_alike():
    sampler = LevelSampler(["one"] * 4, 0.0, seed=1)
    note(sampler, 2, 500, 500)
    assert (sampler.probabilities == 0.25).all() and not sampler.tries.any()


def test_tries_are_looked_at_after_many_episodes():
    sampler = LevelSampler(["one"] * 4, 1.0, seed=1)
    note(sampler, 2, REFRESH // 2, REFRESH - REFRESH // 2 - 1)
    assert (sampler.probabilities == 0.25).all()
    note(sampler, 3, 0, 1)
    assert sampler.probabilities.max() == 1.0


def test_an_environment_continues_bit_for_bit():
    levels = [generate("simplest", k) for k in range(6)]
    arguments = {"levels": levels, "observations": (), "max_frames": 20, "learnability": 0.7}
    envs = NppVectorEnv(64, **arguments, seed=1)
    envs.reset()
    actions = np.random.default_rng(1).integers(0, 6, (120, 64))
    for row in actions[:60]:
        envs.step(row)
    saved = envs.get_state()
    assert saved["tries"][0].min() > 0 and len(set(saved["probabilities"].tolist())) == 2
    after = [envs.step(row)[1:] for row in actions[60:]]
    other = NppVectorEnv(64, **arguments, seed=2)
    other.set_state(saved)
    for row, (reward, *_, infos) in zip(actions[60:], after, strict=True):
        _, again, *_, other_infos = other.step(row)
        assert np.array_equal(reward, again)
        if "outcome" in infos:
            assert np.array_equal(infos["outcome"]["level"], other_infos["outcome"]["level"])
    assert np.array_equal(envs.get_state()["digest"], other.get_state()["digest"])


def test_a_renewal_keeps_the_tries_of_the_data_sets_levels(monkeypatch):
    """A level and its mirror image are the same level; a fresh one of the same name is another one."""
    own = [generate("simplest", k) for k in range(4)]
    fresh = generate("simple", 9)
    fresh = Level(fresh.map_data, own[0].id, own[0].category)
    first = [own[0], mirrored(own[1]), own[2], fresh]
    second = [mirrored(own[0]), own[1], mirrored(own[3]), fresh]
    monkeypatch.setattr(datasets, "training_levels", lambda *_: first if not drawn else second)
    drawn = []
    args = SimpleNamespace(num_envs=4, fresh_levels=1, mirror=True, validation_fraction=0.0, drawn_share=0.0)
    args.learnability = 0.5
    process = SimpleNamespace(world_size=1, rank=0, levels_seed=1, env_seed=1, threads=1, device=None)
    monkeypatch.setattr(episodes, "pin", lambda *_: None)
    envs, _ = begin_envs(args, process, {"observations": ()}, own, [], 0)
    for level, wins in enumerate([1, 2, 3, 4]):
        note(envs.sampler, level, wins, 0)
    expected = envs.sampler.tries[:, [0, 1]]
    drawn.append(1)
    envs, _ = begin_envs(args, process, {"observations": ()}, own, [], 1, envs)
    assert np.array_equal(envs.sampler.tries[:, :2], expected) and not envs.sampler.tries[:, 2].any()
