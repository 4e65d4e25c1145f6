"""How every command reads its arguments, speaks, stops and fails: an error is one line on stderr, exit status 2."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence


class UserError(ValueError):
    """Something that the user can mend; the message is one line that names it and says what was expected."""


class LevelError(UserError):
    """A level or a data set that cannot be used; the message is one line."""


class CheckpointError(UserError):
    """A checkpoint or run directory that cannot be used; the message is one line that names it."""


class ArgumentError(UserError):
    """An argument that cannot be used; the message is one line that names the flag and what was expected."""


def say(text: str, end: str = "\n") -> None:
    """Print, and go on without a console once it is gone (a closed pipe, a full disk behind it)."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse(args_type, argv: Sequence[str] | None = None, default=None):
    """`tyro.cli(args_type)` of `argv` (default: the command line's); fields default to those of `default`, if given.

    Unknown arguments and bad values end the process with one line on stderr and status 2.
    """
    import tyro  # here: what only reports errors does not need it

    caught = io.StringIO()
    try:
        with contextlib.redirect_stderr(caught):
            return tyro.cli(args_type, args=argv, default=default)
    except SystemExit as stop:
        if stop.code:  # tyro draws a box around its message, with a title, rules and a hint at --help
            words = [line.strip("\u2500\u2502\u256d\u256e\u2570\u256f ") for line in caught.getvalue().splitlines()]
            text = " ".join(word for word in words[1:] if word.strip("-"))
            fail(text.partition(" For full helptext")[0])
        raise


def command(main: Callable, args_type, parse: Callable = parse) -> None:
    """Run `main` with the command line's arguments; what a user can cause ends with one line and status 2.

    parse: `parse`, or for scripts that resume `training.arguments.parse_args`.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # names of levels may be in any script
    try:
        try:
            main(parse(args_type))
        finally:
            _flush()
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except BrokenPipeError:  # whoever read the output has gone, such as `head`
        _flush()
        raise SystemExit(128 + signal.SIGPIPE) from None
    except MemoryError as error:
        fail(f"not enough memory ({error})")
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error))
    except (UserError, FloatingPointError, ModuleNotFoundError) as error:
        fail(str(error))
    except RuntimeError as error:
        if os.environ.get("WORLD_SIZE", "1") == "1":
            raise
        print(f"error: process {os.environ.get('RANK')}: {str(error).splitlines()[0]}", file=sys.stderr)
        raise  # of the other processes; torchrun shows what they said


def _flush() -> None:
    """Send out what was printed. Nothing happens where nobody reads it any more; OSError where a disk is full."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter tries again at its end
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from None


def fail(message: str, status: int = 2):
    """End the process with one line on stderr."""
    print("error:", " ".join(message.split()), file=sys.stderr)
    raise SystemExit(status)


class StopSignals:
    """Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 (a Slurm warning) noted in `number`, so that a run can save first.

    The second signal of a kind acts at once, as all do after `restore`.
    """

    def __init__(self):
        self.number = 0
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
        self.handlers = {number: signal.signal(number, self._note) for number in numbers}

    def _note(self, number, _):
        self.number = number
        signal.signal(number, self.handlers[number])

    def name(self) -> str:
        return signal.Signals(int(self.number)).name

    def restore(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
