"""N++ as a Gymnasium environment: touch the switch, reach the exit door, do not die.

`gymnasium.make("npp_rl:npp_rl/Npp-v0")` is one game. `gymnasium.make_vec("npp_rl:npp_rl/Npp-v0", num_envs=256)` is a
batch of games that compiled calls step on all cores. After `import npp_rl` the name `npp_rl/Npp-v0` is enough.

Actions, Discrete(6): none, left, right, jump, left + jump, right + jump, held for `frame_skip` frames of 1/60 s.

Observations, a Dict of what is asked for:

- `game_state`, `reachability`, `local_tiles`: observations.py has their tables;
- `arcs`, where each action leads: arcs.py;
- `graph_nodes`, `graph_node_mask`, `graph_adjacent`, `graph_reachable`, the level graph: graph.py;
- `player_frames`, `global_view`, grey pictures: pictures.py.

The reward of a step is the sum of

- `completion` on reaching the exit, `death` on dying, `switch` for each exit switch that is touched, and `time`;
- `idle`, from the ninth step in a row (games.PATIENCE) in which the ninja has not come nearer to the exit than ever
  before with its present goal;
- two terms in phi = -way / `shaping_distance`. The way is its length in px along free space to the exit, through all
  goals before it.

The first of the two terms is the shaping gamma * phi(s') - phi(s), where phi of a terminal state is 0 (Ng, Harada,
Russell 1999). The second is `distance` times (1 - gamma) * phi(s'), or `distance` times phi(s) on death: being far away
costs, and so does dying there. Shaping alone is neutral to any policy. A critic that has learned -phi cancels it, and
with it all guidance. With `distance` 1 the two terms add up to plain progress, (way before - way after) /
`shaping_distance`, and to nothing on death.

An episode terminates when the ninja is dead or has won. It ends after `max_frames` frames, by default 600 + 1.5 per px
of the level's shortest way, at most 5,000. If the agent sees the time left (`game_state`), that end is part of the game
and terminates the episode, with the rewards of a death but for `death`. Otherwise it truncates the episode, and the
agent has to bootstrap (Pardo et al. 2018, arXiv 1712.00378). The vector environment resets in the same step
(`AutoresetMode.SAME_STEP`): the last observation is in `infos["final_obs"]`, and the episode's figures in
`infos["outcome"]`, both arrays over all games, valid where `infos["_final_obs"]`. The key "episode" is left to
Gymnasium's `RecordEpisodeStatistics`.

One game is stepped without threads, so a process that has played one can fork, as `AsyncVectorEnv` does. A process that
was forked from one with a batch of games steps without threads too.

Gymnasium's wrappers work with both, but for those of its vector wrappers that change observations: they refuse every
environment that resets in the same step. Stable-Baselines3 takes every uint8 Box [a, b, c] with bounds 0 and 255 for an
image. `player_frames` and `global_view` are images. `local_tiles` is none, and is too small for the CNN there: the
space says that one of its numbers is never 0, so that it is flattened instead.
"""

import hashlib
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numba import config

from npp_rl.commands import LevelError
from npp_rl.environment import arcs
from npp_rl.environment.games import (
    ACTIONS,
    BEGIN,
    EPISODE,
    EPISODE_KEYS,
    LOOK,
    MOST,
    OBSERVATIONS,
    PLAY,
    REWARD,
    SKIP,
    Observed,
    Orders,
    Outcomes,
    Rules,
    Views,
    advance_all,
    begin_at,
    draw_all,
    graph_all,
    measure_at,
)
from npp_rl.environment.goals import GOAL, level_fields, plan_games
from npp_rl.environment.graph import GRAPH_NODES, GRAPH_OBSERVATIONS, GraphRows, level_graphs
from npp_rl.environment.observations import HAZARDS, PATCH, level_clearances
from npp_rl.environment.pictures import GLOBAL_PIXEL, PLAYER_PIXEL, PLAYER_SIDE, level_pictures
from npp_rl.environment.sampler import LevelSampler
from npp_rl.levels.datasets import load_levels
from npp_rl.levels.fields import NODES
from npp_rl.levels.maps import Level
from npp_rl.simulator import build_bank, compiled, new_state
from npp_rl.simulator.layout import NINJA, Bank


def _spaces(observations, shapes):
    unknown = [name for name in observations if name not in shapes]
    if unknown:
        raise ValueError(f"observation {unknown[0]!r}: expected some of {', '.join(shapes)}")
    spaces = {}
    for name in observations:
        shape, dtype = shapes[name]
        low, high = {np.uint8: (0, 255), np.int16: (-1, GRAPH_NODES - 1)}.get(dtype, (-np.inf, np.inf))
        low = np.full(shape, low, dtype)
        if name == "local_tiles":
            low[2, PATCH // 2, PATCH // 2] = 1  # the way from the ninja's own node: about 128, or 255 (see above)
        spaces[name] = gym.spaces.Box(low, np.full(shape, high, dtype), shape, dtype)
    return gym.spaces.Dict(spaces)


class NppVectorEnv(gym.vector.VectorEnv):
    """A batch of games that compiled calls step together; the module's docstring says what is observed and rewarded.

    Args:
        num_envs: number of games.
        levels: list of `Level`, or a data set for `load_levels` ("builtin", a folder), of which the training split is
            taken. Games start on levels drawn at random.
        observations: keys of the observation, in their order. Default: what ppo_mlp_baseline.py sees.
        frame_skip: frames that an action is held.
        frame_stack: pictures in `player_frames`.
        gamma: discount per step, for the shaping; the agent's own.
        completion, death, switch, time, idle: rewards.
        distance: weight of the distance's cost.
        shaping_distance: px of way that are worth a reward of one; 0 switches the shaping off.
        max_frames: frames after which an episode ends; None: by the level's shortest way.
        seed: of the level sampler (SeedSequence entropy); `reset(seed=...)` sets it anew.
        copy: whether observations are copied out of the buffers that the next step writes to.
        autoreset: without it games go on after their end, until `reset` starts all of them anew.
        render_mode: "rgb_array": `render` returns pictures; "human": a window shows the only game after every step. To
            close the window closes the environment, and `step` or `reset` raises ClosedEnvironmentError.
        render_scale: pixels of a picture to a px of the level.
        unfinished: adds chaser drones and lasers, which the reference simulator does not create, with this project's
            own rules (simulator/unfinished.py). Pictures show them, the other observations do not.
        learnability: share of the games that begin on levels which are won sometimes (sampler.py).

    Raises:
        ValueError: an unknown observation, or a number out of its range.
        LevelError: no usable level.
    """

    metadata = {  # noqa: RUF012
        "autoreset_mode": AutoresetMode.SAME_STEP,
        "render_modes": ["human", "rgb_array"],
        "render_fps": 15.0,
    }

    def __init__(
        self,
        num_envs: int = 256,
        levels: Sequence[Level] | str | Path = "builtin",
        observations: Sequence[str] = ("game_state", "reachability", "arcs", "local_tiles"),
        frame_skip: int = 4,
        frame_stack: int = 4,
        gamma: float = 0.99,
        completion: float = 5.0,
        death: float = -2.0,
        switch: float = 1.0,
        time: float = -0.002,
        idle: float = -0.03,
        distance: float = 1.0,
        shaping_distance: float = 100.0,
        max_frames: int | None = None,
        seed: int | None = None,
        copy: bool = True,
        autoreset: bool = True,
        render_mode: str | None = None,
        render_scale: int = 1,
        unfinished: bool = False,
        learnability: float = 0.0,
    ):
        rewards = {"completion": completion, "death": death, "switch": switch, "time": time}
        rewards |= {"distance": distance, "idle": idle}
        _check_whole(num_envs=num_envs, frame_skip=frame_skip, frame_stack=frame_stack, render_scale=render_scale)
        _check_whole(max_frames=1 if max_frames is None else max_frames)
        _check_numbers(gamma=gamma, shaping_distance=shaping_distance, **rewards)
        if not 0.0 < gamma <= 1.0:
            raise ValueError(f"gamma is {gamma}: expected more than 0 and at most 1")
        if shaping_distance < 1.0 and shaping_distance != 0.0:
            raise ValueError(f"shaping_distance is {shaping_distance}: expected px, 1 or more, or 0 for no shaping")
        self.levels = load_levels(levels, "train") if isinstance(levels, (str, Path)) else list(levels)
        if not self.levels:
            raise LevelError("levels: expected at least one")
        self.num_envs = num_envs = int(num_envs)
        self.frame_skip = int(frame_skip)
        self.metadata = {**self.metadata, "render_fps": 60 / self.frame_skip}
        if not autoreset:
            self.metadata["autoreset_mode"] = AutoresetMode.DISABLED
        if render_mode not in (None, *self.metadata["render_modes"]):
            raise ValueError(f"render_mode is {render_mode!r}: expected None, 'rgb_array' or 'human'")
        if render_mode == "human" and num_envs > 1:
            raise ValueError(f"render_mode is 'human' for {num_envs} games: expected one game, or 'rgb_array'")
        self.render_mode = render_mode
        self.render_scale = render_scale
        self._scenes = [None] * num_envs  # (level, what draws it) of each game that has been shown
        self._window = None
        stack = {"player_frames": ((int(frame_stack), PLAYER_SIDE, PLAYER_SIDE), np.uint8)}
        shapes = OBSERVATIONS | stack
        self.single_observation_space = _spaces(observations, shapes)
        self.single_action_space = gym.spaces.Discrete(len(ACTIONS))
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, num_envs)
        self.action_space = gym.vector.utils.batch_space(self.single_action_space, num_envs)

        # The types are part of the kernels' signatures: another type would compile everything again.
        self._rules = Rules(
            frame_skip=self.frame_skip,
            gamma=float(gamma),
            shaping_distance=float(shaping_distance or np.inf),
            max_frames=int(max_frames or 0),
            time_ends="game_state" in observations,
            **{name: float(value) for name, value in rewards.items()},
        )
        self._unfinished = bool(unfinished)
        self._bank = build_bank([level.map_data for level in self.levels], self._unfinished)
        maps = hashlib.sha256(b"".join(bytes.fromhex(level.digest) for level in self.levels))
        self._levels_digest = np.frombuffer(maps.digest(), np.uint8)
        self._rows, self._state = new_state(self._bank, num_envs)
        self._fields = level_fields(self._bank, num_envs)
        self._goals = np.zeros(num_envs, GOAL)
        self._episodes = np.zeros(num_envs, EPISODE)
        self._orders = Orders(
            task=np.zeros(num_envs, np.int8), actions=np.zeros(num_envs, np.int64), starts=np.zeros(num_envs, np.int32)
        )
        self._outcomes = Outcomes(
            stale=np.zeros(num_envs, np.bool_),
            reward=np.zeros(num_envs),
            terminated=np.zeros(num_envs, np.bool_),
            truncated=np.zeros(num_envs, np.bool_),
            figures=np.zeros((len(EPISODE_KEYS), num_envs)),
        )
        self._prepare_observations(observations, shapes)
        self._copy = copy
        self._begun = False
        self._paused = None  # bool [num_envs], once there is such a game
        self.sampler = LevelSampler([level.category for level in self.levels], float(learnability), seed)
        self._draw_starts(np.ones(num_envs, np.bool_))
        self._plan_stale()  # no goal is stale: this compiles, so that it does not happen in the middle of a run

    def _prepare_observations(self, observations, shapes):
        """Static data of the levels and buffers for what is observed; what is not asked for gets no memory."""
        threads = config.NUMBA_NUM_THREADS  # the most that may be set later
        graph = bool(set(observations) & set(GRAPH_OBSERVATIONS))
        clearance = len(self.levels) if graph or {"reachability", "local_tiles", "arcs"} & set(observations) else 0
        self._views = Views(
            dist=self._fields.dist,
            ahead=self._fields.ahead,
            share=self._fields.share,
            stage=self._fields.stage,
            clearance=np.zeros((clearance, NODES), np.uint8),
            nearest=np.zeros((threads, HAZARDS)),
            points=np.zeros((threads, 6, 2), np.float32),
            open_cells=np.zeros((len(self.levels) if "arcs" in observations else 0, arcs.OPEN_CELLS), np.uint64),
            around=np.zeros(threads, arcs.AROUND),
        )
        if clearance:
            level_clearances(self._bank, self._views.clearance)
        if "arcs" in observations:
            arcs.level_open_cells(self._views.clearance, self._views.open_cells)
        self._graphs = level_graphs(self._bank, compiled.serial(self.num_envs)) if graph else None
        self._drawings = None
        if "player_frames" in observations or "global_view" in observations:
            alone = compiled.serial(self.num_envs)
            self._drawings = (
                level_pictures(self._bank, PLAYER_PIXEL, "player_frames" in observations, alone),
                level_pictures(self._bank, GLOBAL_PIXEL, "global_view" in observations, alone),
            )
        # One kernel writes all parts of a graph.
        written = set(observations) | (set(GRAPH_OBSERVATIONS) if graph else set())
        buffers = {k: np.zeros((self.num_envs if k in written else 0, *s), d) for k, (s, d) in shapes.items()}
        self._observed = Observed(*(buffers[name] for name in Observed._fields))
        self._graph = GraphRows(*(buffers[name] for name in GRAPH_OBSERVATIONS))
        self._frames, self._view = buffers["player_frames"], buffers["global_view"]
        self._obs = {name: buffers[name] for name in observations}
        self._final_obs = {name: np.zeros_like(buffers[name]) for name in observations}

    def set_level_probabilities(self, probabilities) -> None:
        """Draw levels with these probabilities, float [levels], from the next draw on; they are normalised."""
        p = np.asarray(probabilities)
        numbers = p.dtype.kind in "iuf" and p.shape == (len(self.levels),) and np.isfinite(p.sum())
        if not numbers or p.min() < 0 or p.sum() <= 0:
            raise ValueError(f"level probabilities: expected {len(self.levels)} numbers, none negative, not all zero")
        self.sampler.set_probabilities(p)

    def _draw_starts(self, chosen):
        """Draw the next levels of the chosen games (bool [games])."""
        self._orders.starts[chosen] = self.sampler.draw(int(chosen.sum()))

    def set_next_levels(self, levels) -> None:
        """Begin the next episodes on these levels, int [num_envs] indices into `levels`, instead of drawn ones.

        They count once: after it a game draws its levels again. Raises ValueError for other numbers.
        """
        if not _are_indices(levels, self.num_envs, len(self.levels)):
            raise ValueError(f"next levels: expected {self.num_envs} indices below {len(self.levels)}")
        self._orders.starts[:] = levels

    def pause(self, games) -> None:
        """Let games, bool [num_envs], stand still until `reset` or `set_state`.

        Steps cost nothing for them, and they never end.
        """
        self._paused = np.array(games, np.bool_)
        outcomes = self._outcomes
        for array in (outcomes.stale, outcomes.reward, outcomes.terminated, outcomes.truncated):
            array[self._paused] = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start all games anew; options["levels"], int [num_envs], says on which levels (indices into `levels`)."""
        if self.closed:
            raise gym.error.ClosedEnvironmentError("reset after close")
        if seed is not None:
            self.sampler.set_seed(seed)
            self._draw_starts(np.ones(self.num_envs, np.bool_))
        given = (options or {}).get("levels")
        orders = self._orders
        if given is not None:
            if not _are_indices(given, self.num_envs, len(self.levels)):
                raise ValueError(f'options["levels"]: expected {self.num_envs} indices below {len(self.levels)}')
            orders = orders._replace(starts=np.asarray(given).astype(np.int32))
        self._begun, self._paused = True, None
        self._advance(BEGIN, orders)
        self._write_graphs_and_pictures()
        if given is None:
            self._draw_starts(np.ones(self.num_envs, np.bool_))
        if self.render_mode == "human":
            self._show()
        return self._out(self._obs), {}

    @property
    def bank(self) -> Bank:
        """The levels as the simulator holds them."""
        return self._bank

    @property
    def rows(self) -> np.ndarray:
        """uint8 [num_envs, row bytes], read-only: the simulator's part of each game, as it is now."""
        rows = self._rows.view()
        rows.flags.writeable = False
        return rows

    @property
    def limits(self) -> np.ndarray:
        """int32 [num_envs]: frames after which the episode of each game ends."""
        return self._episodes["limit"].copy()

    def place(self, games, rows, totals) -> dict[str, np.ndarray]:
        """Let games, int [k] indices, go on from the states in rows, uint8 [k, row bytes] -> observations of all games.

        A row is one of `rows` of an environment with the same levels, of a game that goes on, or one that a search made
        from it. totals: float [k], px from there to the exit, which count where no free place is near the ninja.

        The simulator's part of the game goes on bit for bit. The episode is as if it began there: its return and the
        way travelled are 0, the ninja has not stood still, and `player_frames` holds copies of the newest picture. But
        its steps, its time limit and its shortest way count from the level's start. A paused game stays paused. Raises
        ValueError for games, rows or totals that do not fit.
        """
        games, rows = np.asarray(games), np.asarray(rows)
        if games.ndim != 1 or not len(games) or not _are_indices(games, len(games), self.num_envs):
            raise ValueError(f"games: expected one or more indices below {self.num_envs}")
        shape = [len(games), self._rows.shape[1]]
        if rows.dtype != np.uint8 or list(rows.shape) != shape:
            raise ValueError(f"rows of {rows.dtype} {list(rows.shape)}: expected uint8 {shape}")
        level = np.ascontiguousarray(rows[:, : NINJA.itemsize]).view(NINJA)["level"][:, 0]
        if not _are_indices(level, len(games), len(self.levels)):
            raise ValueError(f"rows: expected games on these {len(self.levels)} levels")
        totals = np.array(totals, np.float64)
        if totals.shape != games.shape or not np.isfinite(totals).all():
            raise ValueError(f"totals: expected {len(games)} numbers")
        games = games.astype(np.int64)
        self._rows[games] = rows
        self._begun = True
        played = self._bank, self._state, self._goals, self._episodes
        stale = np.zeros(self.num_envs, np.bool_)
        begin_at(*played, self._views, self._rules, games, stale)
        plan_games(self._bank, self._state, self._fields, self._goals, self._episodes, stale)
        measure_at(*played, self._views, self._rules, games, totals)
        task = np.full(self.num_envs, SKIP, np.int8)
        task[games] = LOOK
        self._advance(task)
        self._orders.task[games] = BEGIN  # `player_frames` begins with copies of the newest picture
        self._write_graphs_and_pictures()
        return self._out(self._obs)

    def _advance(self, task, orders=None):
        """Do `task` (one for all games, or i1 [games]) and write the observations, but for graphs and pictures."""
        self._orders.task[:] = task
        games = self._bank, self._state, self._goals, self._episodes
        orders = orders or self._orders
        alone = compiled.serial(self.num_envs)
        advance_all(*games, self._views, self._rules, orders, self._observed, self._outcomes, alone)

    def _write_graphs_and_pictures(self):
        """Write the graphs and pictures of all games but those whose last task was SKIP."""
        task = self._orders.task
        if self._graphs is not None:
            games = self._bank, self._state, self._goals, self._episodes
            graph_all(*games, self._views, self._graphs, task, self._graph, compiled.serial(self.num_envs))
        if self._drawings is not None:
            alone = compiled.serial(self.num_envs)
            draw_all(self._bank, self._state, *self._drawings, task, self._frames, self._view, alone)

    def _plan_stale(self):
        """Plan the goals of stale games anew."""
        plan_games(self._bank, self._state, self._fields, self._goals, self._episodes, self._outcomes.stale)

    def step(self, actions):
        """Hold actions, int [num_envs] in 0..5, for one step; see the module's docstring and Gymnasium's VectorEnv.

        Raises ValueError for other actions, ResetNeeded before the first `reset`.
        """
        if self.closed:
            raise gym.error.ClosedEnvironmentError("step after close")
        if not self._begun:
            raise gym.error.ResetNeeded("step before reset: the games have not begun")
        if not _are_indices(actions, self.num_envs, len(ACTIONS)):
            raise ValueError(f"actions: expected {self.num_envs} integers from 0 to {len(ACTIONS) - 1}")
        self._orders.actions[:] = actions
        task = PLAY if self._paused is None else np.where(self._paused, SKIP, PLAY)
        self._advance(task)
        outcomes = self._outcomes
        if outcomes.stale.any():
            self._plan_stale()
            self._advance(np.where(outcomes.stale, REWARD, SKIP))
            self._orders.task[:] = task  # below, the pictures of all games move on
        self._write_graphs_and_pictures()
        reward, terminated, truncated = outcomes.reward.copy(), outcomes.terminated.copy(), outcomes.truncated.copy()
        infos = {}
        done = terminated | truncated
        if done.any():
            infos["outcome"] = dict(zip(EPISODE_KEYS, outcomes.figures.copy(), strict=True))
            for name in ("l", "frames", "cause", "level", "gold"):
                infos["outcome"][name] = infos["outcome"][name].astype(np.int64)
            infos["outcome"]["success"] = infos["outcome"]["success"] > 0
            self.sampler.note(infos["outcome"]["level"][done], infos["outcome"]["success"][done])
            infos["_outcome"] = done
            if self.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP:
                for name, array in self._obs.items():
                    self._final_obs[name][done] = array[done]
                infos["final_obs"] = self._out(self._final_obs)
                infos["_final_obs"] = done
                self._advance(np.where(done, BEGIN, SKIP))
                self._write_graphs_and_pictures()
                self._draw_starts(done)
        if self.render_mode == "human":
            self._show()
        return self._out(self._obs), reward, terminated, truncated, infos

    def render(self):
        """Pictures of all games, a tuple of uint8 [600 * render_scale, 1056 * render_scale, 3]; None unless rgb_array.

        A game that ended in the last step, and was reset in it, is shown at its new start.
        """
        return self._pictures() if self.render_mode == "rgb_array" else None

    def _pictures(self):
        from npp_rl.viewing.render import Scene  # here: Pillow is needed for pictures only

        for i, level in enumerate(self._state.ninja["level"][: self.num_envs].tolist()):
            if self._scenes[i] is None or self._scenes[i][0] != level:
                self._scenes[i] = (level, Scene(self.levels[level].map_data, self.render_scale, self._unfinished))
        return tuple(scene.picture(self._state, i) for i, (_, scene) in enumerate(self._scenes))

    def _show(self):
        try:
            from npp_rl.viewing.window import Closed, Window
        except ImportError:
            needs = 'render_mode "human" needs pygame: pip install "npp-rl[play]"'
            raise gym.error.DependencyNotInstalled(needs) from None
        if self._window is None:
            self._window = Window(1056 * self.render_scale, 600 * self.render_scale, "NPP-RL")
        try:
            self._window.show(self._pictures()[0], self.metadata["render_fps"])
        except Closed:
            self.close()
            raise gym.error.ClosedEnvironmentError(
                "the window was closed, and with it the environment (render_mode='human')"
            ) from None

    def close_extras(self, **kwargs):
        if self._window is not None:
            self._window.close()
            self._window = None

    def _out(self, arrays):
        return {name: array.copy() for name, array in arrays.items()} if self._copy else dict(arrays)

    def get_state(self) -> dict[str, np.ndarray]:
        """Everything that decides what comes next, as arrays: games, episodes, goals and the level sampler.

        Pauses are no part of it: after `set_state` all games go on.
        """
        fields = self._goals["field"]
        rows = fields[fields >= self._fields.own]  # of games that have a field of their own
        state = {
            "rows": self._rows.copy(),
            "episodes": self._episodes.view(np.uint8).copy(),
            "goals": self._goals.view(np.uint8).copy(),
            "own_dist": self._fields.dist[rows],
            "own_ahead": self._fields.ahead[rows],
            "starts": self._orders.starts.copy(),
            "probabilities": self.sampler.probabilities.copy(),
            "tries": self.sampler.tries.copy(),
            "since": self.sampler.since.copy(),
            "random": _random_words(self.sampler.random),
            "frames": self._frames.copy(),
            "levels": self._levels_digest.copy(),
        }
        return {**state, "digest": _digest_of(state)}

    def set_state(self, saved: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Continue from `get_state` of an environment with the same arguments -> observation.

        Raises ValueError, with nothing changed, if the saved arrays do not fit.
        """
        if not isinstance(saved, dict) or not all(isinstance(array, np.ndarray) for array in saved.values()):
            raise ValueError("saved environment state: expected the arrays of get_state")
        now = self.get_state()
        levels, games = len(self.levels), np.arange(self.num_envs)

        def check(name, fits):
            if not fits:
                raise ValueError(f"saved environment state: {name} does not fit these levels and num_envs")

        for name in ("levels", *now):
            first = 1 if name.startswith("own_") else 0  # as many as games that have a field of their own
            check(name, name in saved and saved[name].dtype == now[name].dtype)
            check(name, saved[name].ndim == now[name].ndim and saved[name].shape[first:] == now[name].shape[first:])
        check("levels", np.array_equal(saved["levels"], now["levels"]))
        level = np.ascontiguousarray(saved["rows"][:, : NINJA.itemsize]).view(NINJA)["level"][:, 0]
        check("rows", _are_indices(level, self.num_envs, levels))
        goals = np.ascontiguousarray(saved["goals"]).view(GOAL)
        own = goals["field"] == self._fields.own + games
        check("goals", (own | (goals["field"] // 2 == level)).all())
        for name in ("own_dist", "own_ahead"):
            check(name, len(saved[name]) == own.sum())
        check("starts", _are_indices(saved["starts"], self.num_envs, levels))
        # The arrays hold indices that the kernels follow unchecked, so an array that was changed is refused.
        check("digest", np.array_equal(saved["digest"], _digest_of(saved)))

        self._rows[:] = saved["rows"]
        self._episodes[:] = np.ascontiguousarray(saved["episodes"]).view(EPISODE)
        self._goals[:] = goals
        own = goals["field"][own]
        self._fields.dist[own] = saved["own_dist"]
        self._fields.ahead[own] = saved["own_ahead"]
        self._orders.starts[:] = saved["starts"]
        self.sampler.restore(saved["probabilities"], saved["tries"], saved["since"])
        _set_random_words(self.sampler.random, saved["random"])
        self._frames[:] = saved["frames"]  # old pictures cannot be drawn again
        self._begun, self._paused = True, None
        self._advance(LOOK)
        self._write_graphs_and_pictures()
        return self._out(self._obs)


def _check_whole(**numbers):
    """Raise ValueError for numbers that are no integers from 1 to MOST."""
    for name, value in numbers.items():
        if not isinstance(value, Integral) or value < 1:
            raise ValueError(f"{name} is {value}: expected a whole number of at least 1")
        if value > MOST:
            raise ValueError(f"{name} is {value}: expected at most {MOST}")


def _check_numbers(**numbers):
    """Raise ValueError for numbers that are not finite."""
    for name, value in numbers.items():
        if not isinstance(value, Real) or not np.isfinite(value):
            raise ValueError(f"{name} is {value}: expected a number")


def _are_indices(values, count, below) -> bool:
    """Whether values are `count` integers from 0 to below - 1; with others a kernel would read anywhere in memory."""
    values = np.asarray(values)
    return values.dtype.kind in "iu" and values.shape == (count,) and values.min() >= 0 and values.max() < below


def _digest_of(arrays) -> np.ndarray:
    """SHA-256 (u1 [32]) of arrays by name, without "digest" itself."""
    digest = hashlib.sha256()
    for name in sorted(set(arrays) - {"digest"}):
        digest.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape} ".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return np.frombuffer(digest.digest(), np.uint8)


def _random_words(random) -> np.ndarray:
    """State of a PCG64 generator as uint64 [6]."""
    state = random.bit_generator.state
    low = (1 << 64) - 1
    words = [w for n in (state["state"]["state"], state["state"]["inc"]) for w in (n >> 64, n & low)]
    return np.array([*words, state["has_uint32"], state["uinteger"]], np.uint64)


def _set_random_words(random, words) -> None:
    a, b, c, d, has, rest = (int(w) for w in np.asarray(words, np.uint64))
    random.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": a << 64 | b, "inc": c << 64 | d},
        "has_uint32": has,
        "uinteger": rest,
    }


class NppEnv(gym.Env):
    """One game: `NppVectorEnv` with a batch of one and without autoreset; its other arguments are the same."""

    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 15.0}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None, **arguments):
        self._envs = NppVectorEnv(num_envs=1, autoreset=False, copy=True, render_mode=render_mode, **arguments)
        self.levels = self._envs.levels
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": self._envs.metadata["render_fps"]}
        self.observation_space = self._envs.single_observation_space
        self.action_space = self._envs.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Start on a level drawn at random, or on options["level"], an index into `levels`."""
        super().reset(seed=seed)
        level = (options or {}).get("level")
        obs, _ = self._envs.reset(seed=seed, options=None if level is None else {"levels": [level]})
        return {name: array[0] for name, array in obs.items()}, {}

    def step(self, action):
        """Hold an action in 0..5 for one step; info["outcome"] has the episode's figures when it ends."""
        obs, reward, terminated, truncated, infos = self._envs.step(np.array([action]))
        info = {}
        if "outcome" in infos:
            info["outcome"] = {name: array[0] for name, array in infos["outcome"].items()}
        obs = {name: array[0] for name, array in obs.items()}
        return obs, float(reward[0]), bool(terminated[0]), bool(truncated[0]), info

    def render(self):
        """A picture, uint8 [600 * render_scale, 1056 * render_scale, 3]; None unless rgb_array."""
        pictures = self._envs.render()
        return pictures[0] if pictures else None

    def close(self):
        self._envs.close()
