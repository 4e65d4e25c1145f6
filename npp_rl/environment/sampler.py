"""Which levels the games of a batch begin on.

Levels are drawn by probabilities. With `learnability`, that share of the games begins on levels that are won sometimes:
on the TOP of all levels with the highest p * (1 - p), where p is the share of the latest tries that won (Rutherford et
al. 2024, "No Regrets", arXiv 2408.15099). A level that is always won teaches nothing more, and neither does one that is
never won. A level with few tries takes the share of its category.
"""

from collections.abc import Sequence

import numpy as np

TOP = 0.25  # share of the levels
MEMORY = 0.9  # weight of a try once the level is tried again: about ten tries count
PRIOR = 1.0  # tries for which the category's share counts
REFRESH = 500  # episodes between two looks at the tries


class LevelSampler:
    """Draws levels, indices from 0.

    Args:
        categories: of each level, of any kind.
        learnability: share of the draws from the levels with the highest p * (1 - p), 0 to 1.
        seed: of the draws (SeedSequence entropy).
    """

    def __init__(self, categories: Sequence, learnability: float, seed: int | None):
        self.learnability = learnability
        names = {name: k for k, name in enumerate(dict.fromkeys(categories))}
        self._category = np.array([names[name] for name in categories])
        self.tries = np.zeros((2, len(self._category)))  # of each level, the latest ones: number, wins
        self.since = np.zeros(1, np.int64)  # episodes since the last look at the tries
        self.set_probabilities(np.ones(len(self._category)))
        self.set_seed(seed)

    def set_seed(self, seed: int | None) -> None:
        self.random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))

    def set_probabilities(self, probabilities) -> None:
        """Draw by these probabilities, float [levels], until tries change them; they are normalised."""
        self.probabilities = np.asarray(probabilities) / np.sum(probabilities)
        self._bounds = np.cumsum(self.probabilities)

    def restore(self, probabilities: np.ndarray, tries: np.ndarray, since: np.ndarray) -> None:
        """Go on from the arrays of another sampler of the same levels."""
        self.probabilities, self.tries, self.since = probabilities.copy(), tries.copy(), since.copy()
        self._bounds = np.cumsum(self.probabilities)

    def draw(self, count: int) -> np.ndarray:
        """Levels, int64 [count]."""
        at = self.random.random(count) * self._bounds[-1]
        return np.minimum(np.searchsorted(self._bounds, at, side="right"), len(self._bounds) - 1)

    def note(self, levels: np.ndarray, won: np.ndarray) -> None:
        """Count tries: levels int [n], won bool [n]."""
        if not self.learnability:
            return
        np.multiply.at(self.tries, (slice(None), levels), MEMORY)
        np.add.at(self.tries, (0, levels), 1.0)
        np.add.at(self.tries, (1, levels), won)
        self.since += len(levels)
        if self.since[0] >= REFRESH:
            self.refresh()

    def refresh(self) -> None:
        """Look at the tries anew."""
        self.since[0] = 0
        played, won = (np.bincount(self._category, row) for row in self.tries)
        prior = ((won + 1) / (played + 2))[self._category]
        p = (self.tries[1] + PRIOR * prior) / (self.tries[0] + PRIOR)
        top = np.argsort(-p * (1 - p), kind="stable")[: max(1, round(TOP * len(p)))]
        probabilities = np.full(len(p), (1 - self.learnability) / len(p))
        probabilities[top] += self.learnability / len(top)
        self.set_probabilities(probabilities)
