"""Arguments, output, signals and errors of all commands. An error is one line on stderr with exit status 2."""

import contextlib
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence


class UserError(ValueError):
    """An error that the user can fix. The message is one line that names the thing and says what was expected."""


class LevelError(UserError):
    """A level or data set is unusable. The message is one line."""


class CheckpointError(UserError):
    """A checkpoint or run directory is unusable. The message is one line that names it."""


class ArgumentError(UserError):
    """An argument is unusable. The message is one line that names the flag and says what was expected."""


def say(text: str, end: str = "\n") -> None:
    """Print. If the output is gone (a closed pipe, a full disk), the program goes on and later output is dropped."""
    try:
        print(text, end=end, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parse(args_type, argv: Sequence[str] | None = None, default=None):
    """`tyro.cli(args_type)` of `argv` (default: the command line). default: an `args_type` with other defaults.

    Unknown arguments and bad values end the process with one line on stderr and status 2.
    """
    import tyro  # imported here because users of the errors do not need it

    caught = io.StringIO()
    try:
        with contextlib.redirect_stderr(caught):
            return tyro.cli(args_type, args=argv, default=default)
    except SystemExit as stop:
        if stop.code:  # tyro's message has a box, a title, rules and a hint at --help
            words = [line.strip("\u2500\u2502\u256d\u256e\u2570\u256f ") for line in caught.getvalue().splitlines()]
            text = " ".join(word for word in words[1:] if word.strip("-"))
            fail(text.partition(" For full helptext")[0])
        raise


def command(main: Callable, args_type, parse: Callable = parse) -> None:
    """Run `main` with the command line's arguments. Errors that a user can cause end with one line and status 2.

    parse: this module's, or `training.arguments.parse_args` for scripts that can resume.
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
    except BrokenPipeError:  # the reader of the output has gone, such as `head`
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
        raise  # likely because another process failed, whose error torchrun shows


def _flush() -> None:
    """Flush stdout. A closed pipe is no error. Raises OSError if a disk is full."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter flushes again at exit
        if not isinstance(error, BrokenPipeError):
            raise OSError(error.errno, error.strerror, "standard output") from None


def fail(message: str, status: int = 2):
    """End the process with one line on stderr."""
    print("error:", " ".join(message.split()), file=sys.stderr)
    raise SystemExit(status)


class StopSignals:
    """Notes Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 (a Slurm warning) in `number`, so that a run can save before it stops.

    The second signal of a kind has its usual effect. After `restore` all signals have it.
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
