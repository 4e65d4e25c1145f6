"""The files of an evaluation: eval_results.json, report.md and videos."""

from collections.abc import Sequence
from pathlib import Path

from npp_rl.commands import ArgumentError
from npp_rl.environment.games import CAUSES, inputs_of
from npp_rl.evaluation.summary import report, scalars
from npp_rl.files import plain_name, write_atomically, write_json
from npp_rl.levels.maps import Level
from npp_rl.viewing import video

FILMED_WON, FILMED_LOST = 1, 2  # videos per category
FILMED_FRAMES = 1200  # first frames of an episode that ran out of time; they show why


def write_results(
    results: dict, folder: str | Path, title: str, about: dict[str, str], filmed: Sequence[Level] = ()
) -> None:
    """Write eval_results.json (for programs) and report.md (for people) into `folder`, each atomically.

    filmed: the suite's levels, for the videos of `film`; empty for none.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "eval_results.json", results)
    text = report(results, title, about).encode(errors="backslashreplace")
    write_atomically(folder / "report.md", text)
    if filmed:
        film(results, filmed, folder / "videos")


def finish(run_log, clock, results: dict | None, best: dict, sizes: dict, levels: Sequence[Level], stop) -> None:
    """Write and print a PPO run's results on its test suite, or that a signal stopped it, and close its log.

    best: content of best.pt. sizes: the preset of `--size`. levels: the suite, filmed with --capture-video.
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
        finish_with(run_log, clock, results, about, levels if args["capture_video"] else ())
    run_log.close()


def finish_with(run_log, clock, results: dict, about: dict[str, str], filmed: Sequence[Level] = ()) -> None:
    """Write and print a run's results on its test suite; `about` and `filmed` as in `write_results`."""
    run_log.metrics("test", run_log.last_step, clock.minutes(), scalars(results, "test"))
    title = f"{run_log.run_dir.name} on {run_log.config['args']['test_dataset']}"
    write_results(results, run_log.run_dir, title, about, filmed)
    run_log.message(report(results, title, about))
    run_log.message(f"{run_log.run_dir}: done in {clock.minutes():.1f} minutes")


def check_video(wanted: bool) -> None:
    """Raise ArgumentError if videos are wanted but cannot be written."""
    if wanted and not video.available():
        raise ArgumentError(f"--capture-video: {video.NEEDS}")


def film(results: dict, levels: Sequence[Level], folder: str | Path) -> list[Path]:
    """Write videos of some episodes in the `results` of `levels` -> their files, FOLDER/<level>__<outcome>.mp4.

    Each category gets its first FILMED_WON won and FILMED_LOST lost episodes. Episodes that ran out of time are cut
    after FILMED_FRAMES. The simulator plays the actions again, frame by frame.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    left = {}
    written = []
    for level, entry in zip(levels, results["levels"], strict=True):
        outcome = entry["tries"][0]
        kind = (level.category, outcome["success"])
        left.setdefault(kind, FILMED_WON if outcome["success"] else FILMED_LOST)
        if not left[kind]:
            continue
        left[kind] -= 1
        how, frames = "won", outcome["frames"]
        if outcome["cause"] != CAUSES[0]:
            how = f"died_{outcome['cause']}"
        elif not outcome["success"]:
            how, frames = "out_of_time", min(frames, FILMED_FRAMES)
        inputs = inputs_of(outcome["actions"], results["settings"]["frame_skip"], frames)
        path = folder / f"{plain_name(level.id)}__{how}.mp4"
        video.write_video(path, video.game_pictures(level.map_data, inputs, level.id))
        written.append(path)
    return written
