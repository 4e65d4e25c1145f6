"""The files of an evaluation: eval_results.json, search_results.json, report.md and videos."""

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from npp_rl.commands import ArgumentError, Progress, say
from npp_rl.environment.games import CAUSES, inputs_of
from npp_rl.evaluation.analysis import draw_failures, file_name
from npp_rl.evaluation.search_report import search_section
from npp_rl.evaluation.summary import leave_out, report, scalars
from npp_rl.files import write_atomically, write_json
from npp_rl.levels.maps import Level
from npp_rl.training.checkpoints import trained_on
from npp_rl.viewing import video

FILMED_WON, FILMED_LOST = 1, 2  # videos per category
FILMED_FRAMES = 1200  # first frames of an episode that ran out of time; they show why
MOST_PICTURES = 12  # of lost levels at the end of a run, which take about two seconds


def write_results(
    results: dict,
    folder: str | Path,
    title: str,
    about: dict[str, str],
    filmed: Sequence[Level] = (),
    minutes: float = math.inf,
    found: dict | None = None,
) -> None:
    """Write eval_results.json (for programs) and report.md (for people) into `folder`, each atomically.

    filmed: the suite's levels, for the videos of `film`; empty for none. minutes: that the videos may take. found: what
    a search found (search_report.py), for search_results.json, a section of report.md and videos in `search_videos`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "eval_results.json", results)
    if found:
        write_json(folder / "search_results.json", found)
    more = search_section(found) if found else ()
    text = report(results, title, about, more).encode(errors="backslashreplace")
    write_atomically(folder / "report.md", text)
    if filmed:
        film(results, filmed, folder / "videos", minutes)
    if filmed and found:
        won = [at for at, entry in enumerate(found["levels"]) if entry["tries"]]
        shown = {"levels": [found["levels"][at] for at in won], "settings": found["settings"]}
        film(shown, [filmed[at] for at in won], folder / "search_videos", minutes)


def finish(run_log, clock, results: dict | None, best: dict, sizes: dict, levels: Sequence[Level], stop) -> None:
    """Write and print a PPO run's results on its test suite, or that a signal stopped it, and close its log.

    best: content of best.pt. sizes: the preset of `--size`. levels: the suite.
    """
    config, step, run_dir = run_log.config, run_log.last_step, run_log.run_dir
    args = config["args"]
    if not step and results is not None:
        run_log.message(f"--max-minutes {args['max_minutes']}: no time was left to train, this is an untrained agent")
    if results is None:
        run_log.message(f"stopped by {stop.name()} at step {step}; --resume {run_dir} continues")
    else:
        widths = ", ".join(f"{name} {args[name]}" for name in sizes)
        about = {
            "architecture": f"{config['architecture']}, {args['size']} ({widths}; {config['parameters']:,} parameters)",
            "training": f"{step:,} steps in {clock.minutes():.1f} minutes on {args['train_dataset']}, "
            f"seed {args['seed']}",
            "checkpoint": f"best.pt of step {best['global_step']:,}, chosen on {config['levels']['validation']} "
            "validation levels",
        }
        finish_with(run_log, clock, results, best, about, levels)
    run_log.close()


def finish_with(run_log, clock, results: dict, best: dict, about: dict[str, str], levels: Sequence[Level]) -> None:
    """Write and print a run's results on its test suite; `about` as in `write_results`, best: content of best.pt.

    levels: the suite. Some lost levels are drawn, in `failures`, and with --capture-video games are filmed.
    """
    leave_out(results, levels, trained_on(best))  # a pretrained agent may know levels of this suite
    results["pictures"] = draw_failures(results, levels, run_log.run_dir / "failures", 1, MOST_PICTURES)
    filmed = levels if run_log.config["args"]["capture_video"] else ()
    run_log.metrics("test", run_log.last_step, clock.minutes(), scalars(results, "test"))
    title = f"{run_log.run_dir.name} on {run_log.config['args']['test_dataset']}"
    write_results(results, run_log.run_dir, title, about, filmed, clock.filming_minutes())
    run_log.message(report(results, title, about))
    run_log.message(f"{run_log.run_dir}: done in {clock.minutes():.1f} minutes")


def check_video(wanted: bool) -> None:
    """Raise ArgumentError if videos are wanted but cannot be written."""
    if wanted and not video.available():
        raise ArgumentError(f"--capture-video: {video.NEEDS}")


def film(results: dict, levels: Sequence[Level], folder: str | Path, minutes: float = math.inf) -> list[Path]:
    """Write videos of some episodes in the `results` of `levels` -> their files, FOLDER/<level>__<outcome>.mp4.

    Each category gets its first FILMED_WON won and FILMED_LOST lost episodes. Episodes that ran out of time are cut
    after FILMED_FRAMES. The simulator plays the actions again, frame by frame. Lines say how far it is.
    The first video of each category comes first; from the second on, those that would end after so many `minutes` are
    left out.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = chosen_episodes(results, levels)
    written, drawn, names = [], 0, set()
    began, progress = time.monotonic(), Progress("videos", len(chosen))
    for level, outcome in chosen:
        now = time.monotonic()
        if written and (now - began) * (1 + min(outcome["frames"], FILMED_FRAMES) / drawn) > 60 * minutes:
            continue
        progress.note(len(written))
        how, frames = "won", outcome["frames"]
        if outcome["cause"] != CAUSES[0]:
            how = f"died_{outcome['cause']}"
        elif not outcome["success"]:
            how, frames = "out_of_time", min(frames, FILMED_FRAMES)
        inputs = inputs_of(outcome["actions"], results["settings"]["frame_skip"], frames)
        path = folder / f"{file_name(level, names)}__{how}.mp4"
        drawn += video.write_video(path, video.game_pictures(level.map_data, inputs, level.id))
        written.append(path)
    if len(written) < len(chosen):
        say(f"videos: {len(written)} of {len(chosen)} were made in the time of the run")
    return written


def chosen_episodes(results: dict, levels: Sequence[Level]) -> list[tuple[Level, dict]]:
    """The episodes that `film` shows: levels and outcomes, the first of each category and kind of end first."""
    count, chosen = Counter(), []
    for level, entry in zip(levels, results["levels"], strict=True):
        outcome = entry["tries"][0]
        kind = (level.category, outcome["success"])
        if count[kind] < (FILMED_WON if outcome["success"] else FILMED_LOST):
            chosen.append((count[kind], level, outcome))
            count[kind] += 1
    return [(level, outcome) for _, level, outcome in sorted(chosen, key=lambda one: one[0])]
