"""Mirror of a run's metrics, videos and results on Weights and Biases. WANDB_MODE=offline works too."""

import re
import secrets
from collections.abc import Callable
from pathlib import Path

from npp_rl.files import read_text, write_atomically

RESULTS = ("checkpoints/best.pt", "eval_results.json", "report.md", "config.json")


def begin(run_dir: Path, config: dict, message: Callable[[str], None]):
    """Start the wandb run that mirrors the run in `run_dir`, or continue it if the run is resumed.

    A run's `--label` is one of its tags.
    Returns None and says why if wandb is not installed, has no login or cannot start. Training then goes on without it.
    """
    here = "--track has no effect, all metrics are in metrics.jsonl"
    try:
        import wandb
    except ImportError:
        message(f"wandb is not installed; {here}")
        return None
    args, name = config["args"], run_dir.resolve().name
    if args["exp_name"] not in name:  # such as experiment/mlp_baseline/seed_1
        name = f"{args['exp_name']}__{args['seed']}__{name}"
    id_path = run_dir / "wandb_id.txt"  # so that another run of this name does not continue this one
    if not id_path.is_file():
        write_atomically(id_path, f"{args['exp_name']}-{args['seed']}-{secrets.token_hex(4)}\n".encode())
    try:
        return wandb.init(
            project=args["wandb_project_name"],
            entity=args["wandb_entity"],
            group=args["wandb_group"] or config["architecture"],
            tags=[*args["wandb_tags"], *filter(None, [args.get("label")])],
            config=config,
            name=name,
            id=re.sub(r"[^A-Za-z0-9_.-]+", "_", read_text(id_path, 1000).strip())[:64],
            resume="allow",
            dir=run_dir,
        )
    except wandb.errors.Error as error:
        message(f"wandb: {' '.join(str(error).split())[:300].rstrip('.')}; {here}")
        return None


def add_results(run, run_dir: Path, architecture: str, global_step: int, message: Callable[[str], None]) -> None:
    """Send videos and an artifact of RESULTS to a wandb run when training has ended. Does nothing without results."""
    if not (run_dir / "eval_results.json").is_file():
        return
    import wandb

    try:
        media = {"videos/won": [], "videos/lost": []}
        for path in sorted((run_dir / "videos").glob("*.mp4")):
            key = "videos/won" if path.stem.endswith("__won") else "videos/lost"
            media[key].append(wandb.Video(path, caption=path.stem.replace("__", ": ")))
        media = {key: videos for key, videos in media.items() if videos}
        if media:
            run.log(media, step=global_step)
        about = {"architecture": architecture, "global_step": global_step}
        artifact = wandb.Artifact(f"{run.id}-results", "results", metadata=about)
        for name in RESULTS:
            if (run_dir / name).is_file():
                artifact.add_file(str(run_dir / name), name=Path(name).name)
        run.log_artifact(artifact)
    except (wandb.errors.Error, OSError, ValueError) as error:  # the run's folder has all of it
        message(f"wandb: the results were not added: {' '.join(str(error).split())[:300]}")
