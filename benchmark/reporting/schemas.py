"""What the files of an experiment must look like. Anybody may have written them, and a disk may have damaged them.

Every key may be missing, since other versions wrote other keys, and unknown keys are not looked at. What is there has
the type that stands here and lies within the bounds, so that the rest of the report need not ask.
"""

from typing import Annotated, Any, Required, TypedDict

import msgspec
from msgspec import Meta

from npp_rl.commands import UserError

Number = Annotated[float, Meta(ge=-1e15, le=1e15)]
Amount = Annotated[float, Meta(ge=0, le=1e15)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0, le=10**15)]
Name = Annotated[str, Meta(max_length=1000)]


class Args(TypedDict, total=False):
    """A script's arguments. The others may be anything: they are compared and shown, no more."""

    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    label: Name | None
    exp_name: Name | None
    max_minutes: Amount | None
    train_dataset: Name | None
    test_dataset: Name | None
    pretrained_checkpoint: Name | None


class Config(TypedDict, total=False):
    """config.json of a run."""

    architecture: Required[Annotated[str, Meta(min_length=1, max_length=100)]]
    args: Args
    parameters: Amount | None
    levels: dict[Name, Count] | None
    observation_shapes: dict[Name, list[Count]] | None
    versions: dict[Name, Name | None]
    git_revision: Name | None
    git_changed: bool | None
    machine: Name | None
    processor: Name | None
    cpus: Count | None
    device: Name | None
    world_size: Count | None


class Figures(TypedDict, total=False):
    """Statistics of some levels of a test suite; see `npp_rl.evaluation.summary.summarise`."""

    levels: Count
    success_rate: Share | None
    success_low: Share | None
    success_high: Share | None
    episodes: Count
    efficiency: Number | None
    par_efficiency: Number | None
    death_rate: Share | None
    timeout_rate: Share | None
    safety: Share | None
    near_misses: Number | None
    deaths: dict[Name, Count]
    failures: dict[Name, Count]


class Try(TypedDict, total=False):
    success: Required[bool]
    cause: Name | None
    failure: Name | None
    steps: Count
    frames: Count
    actions: str | None


class Level(TypedDict, total=False):
    id: Required[Name]
    category: Name
    digest: Name
    success_rate: Required[Share]
    trained_on: bool | None
    group: Name | None
    par: Number | None
    tries: list[Try] | None


class Generalisation(TypedDict, total=False):
    gap: Number | None


class Cost(TypedDict, total=False):
    parameters: Amount | None
    flops: Amount | None
    peak_memory_mb: Amount | None
    latency_ms: dict[Name, dict[Name, Amount | None]]


class Settings(TypedDict, total=False):
    deterministic: bool
    tries: Count
    frame_skip: Count


class Results(TypedDict, total=False):
    """eval_results.json of a run."""

    overall: Figures
    by_category: dict[Name, Figures]
    by_tier: dict[Name, Figures]
    levels: list[Level] | None
    settings: Settings
    generalisation: Generalisation | None
    cost: Cost | None
    pictures: dict[Name, Name] | None


# A line of metrics.jsonl. All other keys are numbers too.
Row = TypedDict(
    "Row",
    {
        "kind": Required[Name],
        "global_step": Required[Amount],
        "minutes": Required[Amount],
        "charts/success_rate": Share | None,
        "charts/SPS": Amount | None,
        "eval/success_rate": Share | None,
        "test/success_rate": Share | None,
    },
    total=False,
)
Figure = Number | Name | None  # any value of a line of metrics.jsonl


class PlannedRun(TypedDict, total=False):
    status: Name | None
    name: Name | None
    run_dir: Name | None
    folder: Name | None
    architecture: Name | None
    condition: Name | None
    seed: Any
    reason: Any
    error: Any


class Planned(TypedDict, total=False):
    """all_results.json of the runner."""

    runs: list[PlannedRun] | dict[Name, PlannedRun]


def check(content: dict, schema, place: str) -> dict:
    """`content`, if it fits the schema. Raises UserError, one line with the place, what is wrong and where."""
    try:
        msgspec.convert(content, schema)
    except (msgspec.ValidationError, RecursionError) as error:
        raise UserError(f"{place}: {' '.join(str(error).split())[:200]}") from None
    return content


def row_of(content: dict) -> dict | None:
    """The numbers of a line of metrics and its kind; None if the line does not fit."""
    try:
        msgspec.convert(content, Row)
        values = msgspec.convert(content, dict[str, Figure])
    except (msgspec.ValidationError, RecursionError):
        return None
    return {k: v for k, v in values.items() if isinstance(v, float)} | {"kind": content["kind"]}
