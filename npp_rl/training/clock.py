"""The clock of a run: its progress by steps or by time, and how its time is spent."""

import math
import time

FILES_MINUTES = 6 / 60  # reserved for the last checkpoint, the results, the pictures and the report
PARTS = ("env", "inference", "update", "rest")  # parts of an iteration's time
RESERVE = 0.05  # share of `max_minutes` reserved for the last evaluations until one has been timed
VIDEO_SHARE, VIDEO_MINUTES = 0.1, 5.0  # share of `max_minutes` reserved for videos, and the most minutes


class Clock:
    """Minutes since a run began, including those before it was resumed, and the share of the run that is over.

    Without `max_minutes` this is the share of its steps. With `max_minutes` the run lasts that long, including its last
    evaluations and its videos. The share rises from 0, when training begins, to 1, when those evaluations must begin.
    The clock estimates their time from the newest evaluation. The share never falls, so schedules that follow it never
    reverse.
    """

    def __init__(self, max_minutes: float | None, videos: bool = False):
        self.max_minutes = max_minutes
        self.video_minutes = min(VIDEO_SHARE * (max_minutes or math.inf), VIDEO_MINUTES) if videos else 0.0
        self.started = self.began = time.monotonic()
        self.ready_minutes = 0.0  # when training began
        self.evaluation_minutes = 0.0  # minutes of the newest evaluation / its length
        self.lengths = (0, 0)  # of evaluations on validation and on test levels
        self.iteration_minutes = 0.0  # minutes of the newest iteration; the next one needs as many
        self.seconds = dict.fromkeys(PARTS, 0.0)  # spent since the last call of `speed`
        self.mark = 0.0
        self.share = self.done_before = 0.0

    def minutes(self) -> float:
        return (time.monotonic() - self.started) / 60

    def begin(self, counters, resumed: bool, done: float, validation: int, test: int) -> None:
        """Note that training begins. A resumed run continues the clock in `counters`.

        done: share of the steps already done. validation, test: lengths of evaluations (suite.levels_per_row).
        """
        if resumed:
            self.started -= 60 * counters.minutes
            self.evaluation_minutes = counters.evaluation_minutes
        self.ready_minutes = counters.ready_minutes if resumed else self.minutes()
        self.began, self.done_before, self.lengths = time.monotonic(), done, (validation, test)

    def save(self, counters) -> None:
        """Save in `counters` what a resumed run needs of the clock."""
        counters.minutes, counters.ready_minutes = self.minutes(), self.ready_minutes
        counters.evaluation_minutes = self.evaluation_minutes

    def note_evaluation(self, began: float, untrained: bool) -> float:
        """Note the end of a validation that began at minute `began` -> minutes that it took.

        An untrained agent's time counts half, because its games last longest.
        """
        lasted = self.minutes() - began
        self.evaluation_minutes = (lasted / 2 if untrained else lasted) / self.lengths[0]
        return lasted

    def progress(self, done: float) -> float:
        """Share of the run that is over, 0 to 1. done: share of its steps that are done."""
        if self.max_minutes is None:
            return done
        last = self.evaluation_minutes * sum(self.lengths) or RESERVE * self.max_minutes
        end = self.max_minutes - last - self.video_minutes - FILES_MINUTES
        left = end - self.minutes()
        if left <= self.iteration_minutes or end <= self.ready_minutes:  # no time for another iteration
            return 1.0
        self.share = max(self.share, 1 - left / (end - self.ready_minutes))
        return self.share

    def filming_minutes(self) -> float:
        """Minutes for videos: until the run's end, and at least half of those reserved. Without --max-minutes, inf."""
        if self.max_minutes is None:
            return math.inf
        return max(self.max_minutes - self.minutes(), self.video_minutes / 2)

    def minutes_left(self, done: float) -> float:
        """Minutes to the end of the run at the speed of this process. done: share of its steps that are done."""
        if self.max_minutes is not None:
            return max(self.max_minutes - self.minutes(), 0.0)
        return (time.monotonic() - self.began) / 60 * (1 - done) / max(done - self.done_before, 1e-9)

    def begin_iteration(self) -> None:
        """Restart the stopwatch, so that an evaluation or a checkpoint does not count as part of the iteration."""
        self.mark = time.perf_counter()

    def lap(self, part: str) -> None:
        """Add the time since the last call to `part`, one of PARTS."""
        now = time.perf_counter()
        self.seconds[part] += now - self.mark
        self.mark = now

    def speed(self, steps: int) -> dict[str, float]:
        """Metrics of an iteration: environment steps per second, and the share of time that each part took."""
        self.lap("rest")
        seconds, self.seconds = self.seconds, dict.fromkeys(PARTS, 0.0)
        total = sum(seconds.values())
        self.iteration_minutes = total / 60
        return {"charts/SPS": steps / total} | {f"time/{part}": value / total for part, value in seconds.items()}
