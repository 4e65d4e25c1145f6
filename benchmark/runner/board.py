"""What a person sees of an experiment while it runs."""

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table

from benchmark.runner.runs import Run, Settings, directory, progress, success

LINE_SECONDS = 30  # between lines about the runs where stdout is no terminal


class Board:
    """Messages, which also go to runner.log, and the state of all runs, as a table that is rewritten or as lines."""

    def __init__(self, settings: Settings, runs: Sequence[Run], log):
        self.settings, self.runs, self.log = settings, runs, log
        self.console = Console(highlight=False, markup=False, soft_wrap=True)
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.began = self.shown = time.monotonic()

    def say(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self.log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
            self.log.flush()
        with contextlib.suppress(OSError):
            self.console.print(text)

    def tick(self) -> None:
        now = time.monotonic()
        if now - self.shown < (0.5 if self.live else LINE_SECONDS):
            return
        self.shown = now
        with contextlib.suppress(OSError):
            if self.live:
                self.live.update(self.table(), refresh=True)
                return
            for run in (run for run in self.runs if run.status == "running"):
                self.console.print(f"{run.path}: {', '.join(filter(None, self.row(run)[4:]))}")
            self.console.print(self.summary())

    def summary(self) -> str:
        counts = {
            name: sum(run.status == name for run in self.runs) for name in dict.fromkeys(r.status for r in self.runs)
        }
        text = ", ".join(f"{count} {name}" for name, count in counts.items())
        return f"{text} of {len(self.runs)} runs after {(time.monotonic() - self.began) / 60:.1f} minutes"

    def row(self, run: Run) -> tuple[str, ...]:
        """Cells of a run: who, status, progress, steps per second, success, time left."""
        who = (run.architecture, run.condition, str(run.seed), run.status)
        if run.status == "done":
            rate = success(directory(self.settings, run))
            shown = f"test {rate:.1%}" if rate is not None else ""
            return (*who, f"{run.minutes:.1f} min", "", shown, "")
        if run.status != "running":
            return (*who, run.reason[:60], "", "", "")
        now = progress(self.settings, run)
        share = now.stage or (f"{now.share:.0%} ({now.step:,} steps)" if now.share is not None else "starting")
        speed = f"{now.steps_per_second:,.0f} steps/s" if now.steps_per_second is not None else ""
        won = f"train {now.success:.1%}" if now.success is not None else ""
        left = f"{now.minutes_left:.1f} min left" if now.minutes_left is not None else ""
        return (*who, share, speed, won, left)

    def table(self) -> Table:
        table = Table(title=Path(self.settings.folder).name, caption=self.summary())
        for name in ("architecture", "condition", "seed", "state", "progress", "speed", "success", "time"):
            table.add_column(name, justify="right" if name in ("seed", "speed", "success", "time") else "left")
        room = self.console.height - 7
        runs = self.runs
        if len(runs) > room:  # shown are those that matter now; the caption counts the others
            order = {"running": 0, "failed": 1, "stopped": 2}
            chosen = sorted(range(len(runs)), key=lambda k: (order.get(runs[k].status, 3), k))[: max(1, room)]
            runs = [runs[k] for k in sorted(chosen)]
        for run in runs:
            table.add_row(*self.row(run))
        return table
