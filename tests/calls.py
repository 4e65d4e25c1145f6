"""Commands called in this process as their command lines would."""

import functools

from npp_rl.commands import command, parse


def call(module, *words) -> None:
    """Run a command's module with these words; errors end as they do for a user, with SystemExit."""
    command(module.main, module.Args, functools.partial(parse, argv=[str(word) for word in words]))
