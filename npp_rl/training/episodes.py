"""Training episodes: the environments that play them, and metrics over the episodes that ended."""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist
from gymnasium.vector import AutoresetMode

from npp_rl.environment.env import NppVectorEnv
from npp_rl.environment.games import CAUSES, REWARD_KEYS
from npp_rl.levels import datasets
from npp_rl.levels.categories import CATEGORIES, DRAWN_CATEGORIES
from npp_rl.levels.maps import Level
from npp_rl.training.processes import pin

DIVIDED = 100  # levels that a rank has at least where ranks divide a data set
EPISODE_MEANS = {  # metric: key in infos["outcome"]
    "charts/episodic_return": "r",
    "charts/episodic_length": "l",
    "charts/success_rate": "success",
    **{f"reward/{name}": f"r_{name}" for name in REWARD_KEYS},
}


def rules_of(args, observations: tuple[str, ...]) -> dict:
    """Keyword arguments for environments and evaluations: how a run's games are played and observed."""
    frame_stack = getattr(args, "frame_stack", 1)  # only scripts that see frames have it
    return {
        "observations": observations,
        "frame_skip": args.frame_skip,
        "gamma": args.gamma,
        "frame_stack": frame_stack,
    }


def begin_envs(args, process, rules: dict, own_levels: list[Level], held_out: list[Level], renewal: int, before=None):
    """Make this rank's environments -> (environments, first observations). Each renewal has its own training levels.

    Ranks divide the data set's levels, if these are many, and the fresh ones. rules: see `rules_of`. held_out:
    validation and test levels, which are never trained on. before: the environments until now, whose tries of the data
    set's levels are kept. The environments reuse their buffers in every step (`copy=False`), so the rollout must copy
    the observations.
    """
    levels_seed, reset_seed = (
        int(np.random.SeedSequence((seed, renewal)).generate_state(1)[0])
        for seed in (process.levels_seed, process.env_seed)
    )
    if len(own_levels) >= DIVIDED * process.world_size:
        own_levels = own_levels[process.rank :: process.world_size]
    fresh = math.ceil(args.fresh_levels / process.world_size)
    levels = datasets.training_levels(
        own_levels, held_out, args.mirror, fresh, args.validation_fraction, levels_seed, args.drawn_share
    )
    rules = rules | {"learnability": args.learnability}
    envs = NppVectorEnv(num_envs=args.num_envs // process.world_size, levels=levels, **rules, copy=False)
    if before is not None:
        known = {_key(level): tries for level, tries in zip(before.levels, before.sampler.tries.T, strict=True)}
        for k, level in enumerate(levels):
            if (tries := known.get(_key(level))) is not None:
                envs.sampler.tries[:, k] = tries
        envs.sampler.refresh()
    assert envs.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    envs.reset(seed=reset_seed)
    if not renewal:
        envs.step(np.zeros(envs.num_envs, np.int64))  # compiles the step before the clock counts
    next_obs, _ = envs.reset(seed=reset_seed)
    pin(next_obs, process.device)
    torch.set_num_threads(process.threads)  # Numba's first parallel call changes torch's number
    return envs, next_obs


def _key(level):
    """What a level and its mirror image have in common."""
    return level.id.removesuffix(" mirrored"), level.category, level.tiles_key


def episode_metrics(
    episodes: list[dict], levels: Sequence[Level], own_levels: Sequence[Level], device: torch.device
) -> dict[str, float]:
    """Metrics over the training episodes of all ranks. A metric over no episode is left out.

    episodes: columns of infos["outcome"], one dict per step in which episodes ended. levels: the environments' levels.
    own_levels: the data set's, the same on all ranks.
    """
    # The same list on all ranks, which have levels of their own
    categories = sorted({level.category for level in own_levels} | {*CATEGORIES, *DRAWN_CATEGORIES})
    category_of_level = np.array([categories.index(level.category) for level in levels])

    def column(key):
        return np.concatenate([part[key] for part in episodes]) if episodes else np.zeros(0, np.int64)

    category = category_of_level[column("level")]
    sums = [
        [len(category)],
        [column(key).sum(dtype=float) for key in EPISODE_MEANS.values()],
        np.bincount(category, minlength=len(categories)),
        np.bincount(category, column("success"), minlength=len(categories)),
        np.bincount(column("cause"), minlength=len(CAUSES)),
    ]
    lengths = [len(part) for part in sums]
    sums = torch.from_numpy(np.concatenate(sums)).to(device)
    if dist.is_initialized():
        dist.all_reduce(sums)
    (count,), means, played, won, causes = (part.tolist() for part in sums.split(lengths))
    metrics = {"charts/episodes": count}
    if count:
        metrics |= {name: total / count for name, total in zip(EPISODE_MEANS, means, strict=True)}
        metrics |= {f"deaths/{name}": n / count for name, n in zip(CAUSES[1:], causes[1:], strict=True)}
    return metrics | {f"success/{name}": w / n for name, n, w in zip(categories, played, won, strict=True) if n}
