"""Metrics over the episodes that ended in a rollout."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as dist

from npp_rl.environment.games import CAUSES
from npp_rl.levels.maps import Level

EPISODE_MEANS = {  # metric: key in infos["episode"]
    "charts/episodic_return": "r",
    "charts/episodic_length": "l",
    "charts/success_rate": "success",
    "reward/completion": "r_completion",
    "reward/death": "r_death",
    "reward/switch": "r_switch",
    "reward/time": "r_time",
    "reward/distance": "r_distance",
    "reward/shaping": "r_shaping",
    "reward/idle": "r_idle",
}


def episode_metrics(episodes: list[dict], levels: Sequence[Level], device: torch.device) -> dict[str, float]:
    """Metrics over training episodes, of all ranks together; one over no episode is left out.

    episodes: columns of infos["episode"], one dict for each step in which episodes ended. levels: those they were on.
    """
    categories = sorted({level.category for level in levels})
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
