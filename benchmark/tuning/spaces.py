"""Spaces of a tuned script's arguments: NAME=SPEC words, files, and the default one.

SPEC is `log:LOW:HIGH`, `uniform:LOW:HIGH[:STEP]` (whole numbers where the argument is one) or `choice:A,B,C`, where
8x16x32 stands for several numbers and `none` for no value.
"""

import contextlib
import dataclasses
import json
import math
import tomllib
import typing

from npp_rl.commands import ArgumentError, CheckpointError
from npp_rl.files import read_text
from npp_rl.training.arguments import FREE_ARGUMENTS, args_from, check_args

# Arguments that are not tuned: they change what is measured, where it is written or who watches it.
FIXED = {"exp_name", "seed", "torch_deterministic", "cuda", "threads", "capture_video", "size"}
FIXED |= {"train_dataset", "test_dataset", "holdout_fraction", "validation_fraction", "eval_freq", "save_freq"}
FIXED |= {"label", "evaluations"}
FIXED |= {"total_timesteps", "max_minutes", *FREE_ARGUMENTS}

# The default space: those of these that the script has, and its layer sizes at half, once and twice the preset.
DEFAULT_SPACE = {
    "learning_rate": "log:3e-4:3e-3",
    "num_steps": "choice:32,64,128",
    "num_minibatches": "choice:8,16,32",
    "update_epochs": "uniform:1:4",
    "gamma": "choice:0.98,0.99,0.995",
    "ent_coef": "log:0.001:0.03",
    "clip_coef": "choice:0.1,0.2,0.3",
    "graph_layers": "uniform:1:4",
    "graph_heads": "choice:2,4,8",
}


def default_space(script, size: str) -> dict[str, str]:
    """Specifications by name for a script's Args, its layer sizes around those of the preset `size`."""
    names = {field.name for field in dataclasses.fields(script.Args)}
    space = {name: text for name, text in DEFAULT_SPACE.items() if name in names}
    for name, value in script.SIZES[size].items():
        numbers = value if isinstance(value, tuple) else (value,)
        choices = ["x".join(str(max(1, int(n * scale))) for n in numbers) for scale in (0.5, 1, 2)]
        space[name] = f"choice:{','.join(choices)}"
    return space


def read_space(items: tuple[str, ...]) -> dict[str, str]:
    """Specifications by name, of NAME=SPEC words or of one .toml or .json file. Raises ArgumentError, OSError."""
    if len(items) == 1 and items[0].endswith((".toml", ".json")):
        text = read_text(items[0])
        try:
            content = tomllib.loads(text) if items[0].endswith(".toml") else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArgumentError(f"--space {items[0]}: {' '.join(str(error).split())[:200]}") from None
        if not isinstance(content, dict) or not all(isinstance(value, (str, list)) for value in content.values()):
            raise ArgumentError(f'--space {items[0]}: expected a table of NAME = "SPEC" or NAME = [choices]')
        listed = {name: value for name, value in content.items() if isinstance(value, list)}
        texts = {name: ",".join(map(_text, value)) for name, value in listed.items()}
        return content | {name: f"choice:{text}" for name, text in texts.items()}
    space = {}
    for item in items:
        name, equals, text = item.partition("=")
        name = name.lstrip("-").replace("-", "_")
        if not equals or name in space:
            raise ArgumentError(f"--space {item}: {'is there twice' if equals else 'expected NAME=SPEC'}")
        space[name] = text
    return space


def _text(value) -> str:
    return "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value).lower()


def value_of(text: str):
    """The value of a choice: none, true, false, a number, several numbers (8x16x32), or else the text itself."""
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    parts = text.split("x")
    return tuple(map(int, parts)) if len(parts) > 1 and all(part.isdecimal() for part in parts) else text


def distributions(space: dict[str, str], script, size: str) -> dict:
    """Optuna's distribution of each parameter; raises ArgumentError for one that the script cannot take.

    Choices are kept as texts (see `value_of`), so that several numbers are one choice.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    hints = typing.get_type_hints(script.Args)
    result = {}
    for name, text in space.items():
        flag = f"--space {name}={text}"
        if name not in hints or name in FIXED:
            tunable = ", ".join(sorted(set(hints) - FIXED))
            what = "is not tuned" if name in hints else f"{script.__name__.rpartition('.')[2]} has no such argument"
            raise ArgumentError(f"{flag}: {what} (expected one of {tunable})")
        kind, *parts = text.split(":")
        if kind == "choice" and len(parts) == 1 and all(parts[0].split(",")):
            texts = parts[0].split(",")
            if len(set(texts)) < len(texts):
                raise ArgumentError(f"{flag}: a choice is there twice")
            values = [value_of(choice) for choice in texts]
            distribution = CategoricalDistribution(texts)
        elif (kind == "log" and len(parts) == 2) or (kind == "uniform" and len(parts) in (2, 3)):
            values = [value_of(part) for part in parts]
            if not all(isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v) for v in values):
                raise ArgumentError(f"{flag}: expected numbers")
            (low, high), step = values[:2], values[2] if len(values) == 3 else None
            if not low < high or (kind == "log" and low <= 0) or (step is not None and not 0 < step <= high - low):
                raise ArgumentError(f"{flag}: expected LOW below HIGH, above 0 for log, and a STEP that fits between")
            whole = float not in (hints[name], *typing.get_args(hints[name]))
            if whole and not all(isinstance(value, int) for value in values):
                raise ArgumentError(f"{flag}: expected whole numbers")
            if whole:
                distribution = IntDistribution(low, high, log=kind == "log", step=step or 1)
            else:
                distribution = FloatDistribution(low, high, log=kind == "log", step=step)
            values = values[:2]
        else:
            raise ArgumentError(f"{flag}: expected log:LOW:HIGH, uniform:LOW:HIGH[:STEP] or choice:A,B,C")
        for value in values:
            try:
                args = args_from(script.Args, {**script.SIZES[size], name: value}, flag)
                check_args(args, tuple(script.SIZES[size]))
            except (ArgumentError, CheckpointError) as error:
                reason = str(error).removeprefix(f"{flag}: ")
                raise ArgumentError(f"{flag}: {reason}") from None
        result[name] = distribution
    return result


def values_of(params: dict) -> dict:
    """The script's values of a trial's parameters."""
    return {name: value_of(value) if isinstance(value, str) else value for name, value in params.items()}


def flags(values: dict) -> list[str]:
    """Command-line words of values by name."""
    words = []
    for name, value in values.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *(map(str, value) if isinstance(value, tuple) else [str(value)])]
    return words


def named_in(words: list[str]) -> set[str]:
    """Names of the arguments that command-line words set."""
    given = {word.partition("=")[0].lstrip("-").replace("-", "_") for word in words if word.startswith("--")}
    return given | {name.removeprefix("no_") for name in given}
