"""Arguments of the scripts: parsing, groups of `--help`, bounds, and the arguments of a resumed run."""

import dataclasses
import inspect
import math
import os
import re
import sys
import typing
from pathlib import Path

from npp_rl.commands import ArgumentError, CheckpointError, LevelError, UserError, parse
from npp_rl.files import read_json
from npp_rl.levels.sources import absolute, joined, parts_of
from npp_rl.training import s3
from npp_rl.training.budget import BUDGET

# Arguments that a resumed run may change: its folder, its tracking, its threads (which can change the last bits of the
# weights), and where a script of the user's own lies.
FREE_ARGUMENTS = ("resume", "run_dir", "track", "wandb_project_name", "wandb_entity", "wandb_group", "wandb_tags")
FREE_ARGUMENTS += ("capture_video", "s3_bucket", "s3_prefix", "s3_endpoint_url", "s3_sync_freq", "s3_dry_run")
FREE_ARGUMENTS += ("threads", "script", "teacher_script")
# A resumed run may find these in another place. Its checkpoint knows the digest of the levels, the
# demonstrations and the teachers.
MOVABLE = ("train_dataset", "test_dataset", "replay_data_dir", "teacher")


# Groups of arguments in `--help`, in this order. All other arguments are in OTHERS, at its end.
GROUPS = {
    "network": "arch script size",
    "training": "total_timesteps max_minutes num_envs seed pretrained_checkpoint freeze value_warmup_steps kl_coef "
    "kl_steps epochs patience batch_size learning_rate schedule weight_decay label_smoothing hide_inputs class_weights "
    "value_coef num_steps anneal_lr gamma gae_lambda num_minibatches update_epochs norm_adv clip_coef clip_vloss "
    "ent_coef anneal_ent vf_coef max_grad_norm target_kl teacher teacher_script temperature beta beta_share",
    "levels": "train_dataset test_dataset replay_data_dir holdout_fraction validation_fraction fresh_levels "
    "drawn_share mirror renew_freq learnability frame_skip keep_idle cache_dir",
    "run": "run_dir resume exp_name label evaluations eval_freq save_freq capture_video track",
    "speed": "cuda threads mixed_precision compile cudagraphs torch_deterministic",
    "tracking": "wandb_project_name wandb_entity wandb_group wandb_tags s3_bucket s3_prefix s3_endpoint_url "
    "s3_sync_freq s3_dry_run",
}
OTHERS = "network"


def in_groups(args_type):
    """A dataclass for `--help`: the arguments of `args_type` in groups. Flags, defaults and help lines are the same."""
    import tyro

    lines = dict(re.findall(r"^    (\w+): .*?  # (.*)$", inspect.getsource(args_type), re.MULTILINE))
    fields = {field.name: field for field in dataclasses.fields(args_type)}
    groups = {group: [name for name in names.split() if name in fields] for group, names in GROUPS.items()}
    groups[OTHERS] += [name for name in fields if not any(name in names for names in groups.values())]
    shown = []
    for title, names in groups.items():
        own = []
        for name in names:
            default = fields[name].default
            hint = "" if default in (None, (), "") else None  # a help line says what that means
            described = tyro.conf.arg(help=lines[name], help_behavior_hint=hint)
            kind = typing.Annotated[typing.get_type_hints(args_type)[name], described]
            own.append((name, kind, dataclasses.field(default=default)))
        group = dataclasses.make_dataclass(title, own)
        shown.append((title, tyro.conf.OmitArgPrefixes[group], dataclasses.field(default_factory=group)))
    return dataclasses.make_dataclass(args_type.__name__, shown)


def plain_args(args) -> dict:
    """Arguments as a dict for a checkpoint, with lists for tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(args).items()}


def parse_args(args_type, argv: list[str] | None = None, default=None):
    """Parse `argv` (default: the command line's). With `--resume RUN_DIR` arguments default to those of that run.

    default: an `args_type` with the defaults of other runs.

    Paths of files are made absolute, so that a run can be resumed from another folder. Unknown arguments and bad values
    end the process with one line on stderr and status 2. Raises ArgumentError for an empty name of a file, and
    CheckpointError if the run directory is unusable or an argument given with `--resume` differs from the run's.
    """
    argv = sys.argv[1:] if argv is None else argv
    if {"-h", "--help"} & set(argv):
        parse(in_groups(args_type), ["--help"])
    args = parse(args_type, argv, default)
    if not getattr(args, "resume", None):
        make_paths_absolute(args)
        return args
    if args.resume.startswith("s3://"):
        folder = args.run_dir or f"runs/{args.resume.rstrip('/').rpartition('/')[2]}"
        args.resume = str(s3.download_for_resume(args.resume, folder, args.s3_endpoint_url))
    config_path = Path(args.resume) / "config.json"
    try:
        saved = read_json(config_path)["args"]
        if not isinstance(saved, dict):
            raise TypeError
    except OSError as error:
        raise CheckpointError(f"--resume {args.resume}: no run directory ({config_path}: {error.strerror})") from error
    except UserError as error:
        raise CheckpointError(f"{error}, a run's configuration") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{config_path}: not a run's configuration") from error
    default = args_from(args_type, saved, str(config_path))
    for name, empty in (("script", None), ("teacher_script", ())):  # they would be run: the user names them again
        if hasattr(default, name):
            setattr(default, name, empty)
    try:
        check_args(default, but=FREE_ARGUMENTS)
        make_paths_absolute(default)
    except ArgumentError as error:
        raise CheckpointError(f"{config_path}: {str(error).removeprefix('--')}") from None
    asked = parse(args_type, argv, default)
    asked.resume = args.resume
    make_paths_absolute(asked)
    differences = [f"{name} is in only one of them" for name in sorted(set(vars(default)) ^ set(saved))]
    differences += differences_of(default, asked, (*FREE_ARGUMENTS, *BUDGET, *MOVABLE))
    if differences:
        raise CheckpointError(f"--resume {args.resume}: the run has another configuration: {'; '.join(differences)}")
    return asked


def make_paths_absolute(args) -> None:
    """Make the names of data sets and files in a script's arguments absolute paths. Raises ArgumentError."""
    for name in (*MOVABLE, "pretrained_checkpoint", "script", "teacher_script", "run_dir", "resume"):
        value, flag = getattr(args, name, None), f"--{name.replace('_', '-')}"
        texts = value if isinstance(value, tuple) else () if value is None else (value,)
        for text in texts:
            if not text or "\0" in text:
                raise ArgumentError(f"{flag} {text!r:.60}: expected the name of a file or folder")
        if name.endswith("_dataset"):
            try:
                setattr(args, name, joined([part for text in texts for part in parts_of(text)]))
            except LevelError as error:
                raise ArgumentError(f"{flag}: {error}") from None
        elif name in ("replay_data_dir", "teacher_script") and texts:
            setattr(args, name, tuple(map(absolute, texts)))
        elif name == "teacher" and texts:
            args.teacher = tuple(map(_absolute_agent, texts))
        elif name == "pretrained_checkpoint" and texts:
            args.pretrained_checkpoint = _absolute_agent(value)
        elif name == "script" and texts:
            args.script = absolute(value)


def _absolute_agent(text):
    return text if text.startswith("zoo:") else absolute(text)


def differences_of(old, new, free=FREE_ARGUMENTS) -> list[str]:
    """One line for each argument with different values in two runs. Arguments in `free` may differ."""
    names = [field.name for field in dataclasses.fields(old) if field.name not in free]
    values = [(name, getattr(old, name), getattr(new, name)) for name in names]
    return [f"{name} was {before!r}, now {now!r}" for name, before, now in values if before != now]


def _plain(value):
    return tuple(value) if isinstance(value, list) else value


# Least and greatest value of each argument of the programs; ">" excludes the least.
BOUNDS = {
    "seed": (0, 2**63 - 1),
    "threads": (0, 4 * (os.cpu_count() or 1)),
    "holdout_fraction": (0, 1),
    "validation_fraction": (0, 0.9),
    "frame_skip": (1, 1000),
    "evaluations": (0, 1000),
    "eval_freq": (0, 10**15),
    "save_freq": (0, 10**15),
    "s3_sync_freq": (0, 10**15),
    "total_timesteps": (1, 10**15),
    "max_minutes": (">", 0, 10**6),
    "bc_max_minutes": (">", 0, 10**6),
    "learning_rate": (">", 0, 10),
    "num_envs": (1, 10**6),
    "num_steps": (1, 10**5),
    "gamma": (">", 0, 1),
    "gae_lambda": (0, 1),
    "num_minibatches": (1, 10**6),
    "update_epochs": (1, 1000),
    "clip_coef": (">", 0, 10),
    "ent_coef": (0, 10**3),
    "vf_coef": (0, 10**3),
    "max_grad_norm": (">", 0, 10**9),
    "target_kl": (">", 0, 10**3),
    "tries": (1, 10**6),
    "frame_stack": (1, 64),
    "graph_layers": (0, 100),
    "graph_heads": (1, 1024),
    "fusion_heads": (1, 1024),
    "fresh_levels": (0, 10**5),
    "drawn_share": (0, 1),
    "learnability": (0, 1),
    "renew_freq": (0, 10**15),
    "value_warmup_steps": (0, 10**15),
    "kl_coef": (0, 10**3),
    "kl_steps": (1, 10**15),
    "temperature": (">", 0, 100),
    "beta": (0, 1),
    "beta_share": (">", 0, 1),
    "pictures": (0, 1000),
    "epochs": (1, 10**6),
    "patience": (0, 10**6),
    "batch_size": (1, 10**6),
    "weight_decay": (0, 10),
    "label_smoothing": (0, 0.99),
    "value_coef": (0, 10**3),
    "count": (1, 10**5),
    "states": (1, 10**4),
    "workers": (0, 1024),
    "budget": (">", 0, 86_400),
    "search": (">", 0, 86_400),
    "jobs": (1, 1024),
    "scale": (1, 16),
    "frames": (1, 10**9),
    "observations": (1, 10**9),
    "opset": (13, 20),  # what the networks need, and what torch's exporter of traces knows
}
NAME = r"[A-Za-z0-9_-]([A-Za-z0-9_.-]{0,98}[A-Za-z0-9_-])?"  # of a run: the first part of its folder's name
LABEL = r"[A-Za-z0-9_-]([A-Za-z0-9_.-]{0,38}[A-Za-z0-9_-])?"  # of a configuration: it becomes part of a folder's name
ANY = (-(10**12), 10**12)  # bounds of numbers without bounds of their own
WIDTHS = (1, 16384)  # bounds of layer widths and other counts in an architecture's sizes


def check_args(args, sizes: tuple[str, ...] = (), but: tuple[str, ...] = ()) -> None:
    """Raise ArgumentError for the first argument of a program that is out of its bounds.

    sizes: names of arguments with bounds WIDTHS. but: names of arguments that are not looked at.
    """
    for field in dataclasses.fields(args):
        name, value = field.name, getattr(args, field.name)
        *above, low, high = BOUNDS.get(name, WIDTHS if name in sizes else ANY)
        flag = f"--{name.replace('_', '-')} {value!s:.40}"
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, (int, float)) or name in but:
                continue
            if isinstance(number, float) and not math.isfinite(number):
                raise ArgumentError(f"{flag}: expected a finite number")
            if not low <= number <= high or (above and number == low):
                raise ArgumentError(f"{flag}: expected {f'more than {low}' if above else f'{low}'} to {high}")
    name = getattr(args, "exp_name", None)
    if name is not None and not re.fullmatch(NAME, name):
        raise ArgumentError(f"--exp-name {name!r:.60}: expected at most 100 letters, digits, '_', '-' and inner dots")
    label = getattr(args, "label", "")
    if label and not re.fullmatch(LABEL, label):
        raise ArgumentError(f"--label {label!r:.60}: expected at most 40 letters, digits, '_', '-' and inner dots")


def _fits(value, hint) -> bool:
    """Whether a value from a file has an argument's type: number, string, Literal, or a union or tuple of them."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return value in inner
    if origin is tuple:
        one_length = inner[-1] is not Ellipsis
        whole = isinstance(value, (list, tuple)) and not (one_length and len(value) != len(inner))
        return whole and all(_fits(item, inner[0]) for item in value)
    if inner:
        return any(_fits(value, one) for one in inner)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


def args_from(args_type, saved: dict, place: str):
    """`args_type` with values from a file, else defaults. Raises CheckpointError for a value of a wrong type."""
    hints = typing.get_type_hints(args_type)
    for name, hint in hints.items():
        if name in saved and not _fits(saved[name], hint):
            raise CheckpointError(f"{place}: {name} is {saved[name]!r:.60}, not of its type")
    return args_type(**{name: _plain(saved[name]) for name in hints if name in saved})
