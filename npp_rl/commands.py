"""Arguments, output, signals and errors of all commands. An error is one line on stderr with exit status 2."""

import atexit
import contextlib
import dataclasses
import difflib
import errno
import functools
import io
import itertools
import os
import signal
import sys
import threading
import time
import typing
from collections.abc import Callable, Sequence
from pathlib import Path

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)  # SIGUSR1: a Slurm warning


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


class Progress:
    """Says how far a long work is: a line every SECONDS seconds, from the process of rank 0. `what` names the work."""

    SECONDS = 10

    def __init__(self, what: str, total: int):
        self.what, self.total = what, total
        self.began = self.shown = time.monotonic()

    def note(self, done: int) -> None:
        """Note that `done` parts of `total` are done."""
        now = time.monotonic()
        if now - self.shown > self.SECONDS and os.environ.get("RANK", "0") == "0":
            self.shown = now
            line = "\r\033[K" if sys.stdout.isatty() else ""  # over the line that shows a run's progress
            say(f"{line}{self.what}: {done} of {self.total} after {now - self.began:.0f} s")


def parse(args_type, argv: Sequence[str] | None = None, default=None):
    """`tyro.cli(args_type)` of `argv` (default: the command line). default: an `args_type` with other defaults.

    Unknown arguments and bad values end the process with one line on stderr and status 2. Names of options cannot be
    abbreviated.
    """
    import tyro  # imported here because users of the errors do not need it

    argv = sys.argv[1:] if argv is None else list(argv)
    if {"-h", "--help"} & set(argv):
        _leave_out_empty_defaults(args_type)
    else:
        _check_flags(args_type, argv, default is not None)
    caught = io.StringIO()
    try:
        with contextlib.redirect_stderr(caught):
            return tyro.cli(args_type, args=argv, default=default, prog=_program())
    except OSError as error:  # of the help
        raise OSError(error.errno, error.strerror, "standard output") from None
    except SystemExit as stop:
        if stop.code:  # tyro's message has a box, a title, rules, the option's help and a hint at --help
            words = [line.strip("\u2500\u2502\u256d\u256e\u2570\u256f ") for line in caught.getvalue().splitlines()]
            text = " ".join(word for word in words[1:] if word.strip("-"))
            fail(text.partition(" For full helptext")[0].partition(" Argument helptext")[0])
        raise


def _program() -> str:
    """How the program was started, for its help."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {module.name.removesuffix('.__main__')}" if module else Path(sys.argv[0]).name


def _leave_out_empty_defaults(args_type) -> None:
    """Have the help of an `args_type` say no "(default: None)": if that means something, its help line says what."""
    import tyro

    for field in dataclasses.fields(args_type):
        for sub_command in _sub_commands(field.type):
            _leave_out_empty_defaults(sub_command)
        if field.default in (None, (), ""):
            silent = typing.Annotated[field.type, tyro.conf.arg(help_behavior_hint="")]
            args_type.__annotations__[field.name] = silent


def _sub_commands(kind) -> list[type]:
    """The dataclasses in a field's type, which are sub-commands with options of their own."""
    if dataclasses.is_dataclass(kind):
        return [kind]
    return [found for part in typing.get_args(kind) for found in _sub_commands(part)]


def options_of(args_type) -> tuple[dict[str, tuple[type, bool]], bool]:
    """The options of a dataclass and its sub-commands -> ({name: (type, whether it must be given)}, others).

    Names are as typed, such as `learning-rate`. others: whether sub-commands or words without a name are expected too.
    """
    import tyro

    options, others = {}, False
    hints = (typing.get_type_hints(args_type), typing.get_type_hints(args_type, include_extras=True))
    for field in dataclasses.fields(args_type):
        kind, described = (hint[field.name] for hint in hints)
        sub_commands = _sub_commands(kind)
        for sub_command in sub_commands:
            options |= {name: (kind, False) for name, (kind, _) in options_of(sub_command)[0].items()}
        if sub_commands or tyro.conf.Positional in getattr(described, "__metadata__", ()):
            others = True
        else:
            needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            options[field.name.replace("_", "-")] = (kind, needed)
    return options, others


def _check_flags(args_type, argv: list[str], complete: bool) -> None:
    """End the process for an unknown option, a switch with a value or, unless `complete`, a missing option."""
    options, others = options_of(args_type)
    switches = {name for name, (kind, _) in options.items() if kind is bool}
    given = set()
    argv = argv[: argv.index("--")] if "--" in argv else argv
    for word, following in itertools.zip_longest(argv, argv[1:], fillvalue=""):
        if not word.startswith("--") or word.startswith("--tyro-"):
            continue
        name, equals, value = word[2:].replace("_", "-").partition("=")
        name = name.removeprefix("no-") if name.removeprefix("no-") in switches else name
        if name not in options:
            initials = {"".join(part[:1] for part in option.split("-")): option for option in options}
            near = [initials[name]] if name in initials else difflib.get_close_matches(name, options, 1)
            fail(f"unrecognized option --{name}" + (f", did you mean --{near[0]}?" if near else ""))
        given.add(name)
        value = value if equals else following
        values = ("true", "false") if others else ("true", "false", "yes", "no", "on", "off", "0", "1")
        if name in switches and (equals or value.lower() in values):
            fail(f"--{name} {value}: expected --{name} or --no-{name}, without a value")
    missing = [f"--{name}" for name, (_, needed) in options.items() if needed and name not in given]
    if missing and not complete and not others:
        fail(f"missing {', '.join(missing)} (--help tells what is expected)")


def command(main: Callable, args_type, parse_run: Callable | None = None) -> None:
    """Run `main` with the command line's arguments. Errors that a user can cause end with one line and status 2.

    parse_run: what reads the arguments instead of `parse`, if `main` has StopSignals, such as
    `training.arguments.parse_args`. Until these begin, a signal ends the process at once.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # names of levels may be in any script
    handled = []
    try:
        try:
            if parse_run is None:
                stop_ending()
                for number in (signal.SIGTERM, signal.SIGHUP):
                    if signal.getsignal(number) == signal.SIG_DFL:
                        handled.append(number)
                        signal.signal(number, _stop)
            main((parse_run or parse)(args_type))
        finally:
            _flush()
            for number in handled:
                signal.signal(number, signal.SIG_DFL)
    except Stopped as stopped:
        fail(f"stopped by {signal.Signals(stopped.args[0]).name}", 128 + stopped.args[0])
    except KeyboardInterrupt:
        fail("interrupted", 130)
    except BrokenPipeError:  # the reader of the output has gone, such as `head`
        _flush()
        raise SystemExit(128 + signal.SIGPIPE) from None
    except MemoryError as error:
        fail(f"not enough memory ({error})")
    except OSError as error:
        # What is printed has no file name.
        place = error.filename or ("standard output" if error.errno == errno.ENOSPC else None)
        fail(f"{place}: {error.strerror}" if place and error.strerror else str(error))
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


def heeded() -> list[signal.Signals]:
    """SIGNALS without SIGHUP where that is ignored: `nohup` lets a command outlive its terminal."""
    return [n for n in SIGNALS if n != signal.SIGHUP or signal.getsignal(n) != signal.SIG_IGN]


class Stopped(KeyboardInterrupt):
    """A signal, its only argument, that ends a command as Ctrl-C does."""


def _stop(number, _):
    raise Stopped(number)


class EndOnSignals:
    """From now until `stop`, one of SIGNALS ends the process at once, with one line on stderr and status 128 + number.

    Python calls a handler only between two of its own instructions. So a thread waits for the signal's number in a pipe
    (signal.set_wakeup_fd): it also ends the process while LLVM compiles for a minute, or while a library is loaded.
    """

    def __init__(self):
        self.after = ""  # more for the line, such as what was not saved
        self.ending = threading.Lock()
        self.source, self.sink = os.pipe()
        os.set_blocking(self.sink, False)
        self.handlers = {number: signal.signal(number, lambda number, _: self._end(number)) for number in heeded()}
        self.fd_before = signal.set_wakeup_fd(self.sink)
        self.thread = threading.Thread(target=self._wait, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        """Give all signals the effect that they had before."""
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self.fd_before)
        os.write(self.sink, b"\0")
        self.thread.join()
        os.close(self.source)
        os.close(self.sink)

    def _wait(self):
        while number := os.read(self.source, 1)[0]:
            if number in self.handlers:
                self._end(number)

    def _end(self, number):
        if self.ending.acquire(blocking=False):  # the thread or the handler
            said = "interrupted" if number == signal.SIGINT else f"stopped by {signal.Signals(number).name}"
            with contextlib.suppress(OSError):
                os.write(2, f"error: {said}{self.after}\n".encode())
            for function in AT_END:
                function()
            os._exit(128 + number)


ENDING: list[EndOnSignals] = []  # one from the start of a command until its arguments are read or its StopSignals begin
AT_END: list[Callable] = []  # what `at_end` was told


def _is_script(file: str) -> bool:
    """Whether a program is a copy of one of the scripts, wherever it lies: it has their last marker."""
    try:
        with Path(file).open("rb") as stream:
            return b"\n# End of Agent." in stream.read(1 << 20)
    except OSError:
        return False


def end_on_signals(after: str = "") -> None:
    """From now until `stop_ending`, a signal ends this process if it is a command of this project or a user's script.

    It ends in one line, to which `after` is added. A second call changes `after`.
    """
    if ENDING:
        ENDING[0].after = after
    main = sys.modules.get("__main__")
    package = Path(__file__).parent
    if sys.argv[:1] == ["-m"]:  # `python -m npp_rl.x`, which imports the package first
        words = sys.orig_argv[1:]
        ours = words[words.index("-m") + 1].startswith(("npp_rl.", "benchmark.")) if "-m" in words else False
    else:
        file = getattr(main, "__file__", None) or ""
        ours = package in Path(file).resolve().parents or (bool(file) and _is_script(file))
    if ours and not ENDING and threading.current_thread() is threading.main_thread():
        ENDING.append(EndOnSignals())


def end_on_signals_after_fork() -> None:
    """In a forked process, answer signals as the parent does: the parent's thread and pipe are not this process's."""
    if ENDING:
        before = ENDING.pop()
        for number, handler in before.handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before.fd_before)
        os.close(before.source)
        os.close(before.sink)
        ENDING.append(EndOnSignals())
        ENDING[0].after = before.after


def stop_ending() -> None:
    """Give all signals the effect that they had before `end_on_signals`."""
    while ENDING:
        ENDING.pop().stop()


def at_end(function: Callable, *args) -> None:
    """Call a function when the process ends, by a signal that `end_on_signals` answers too."""
    atexit.register(function, *args)
    AT_END.append(functools.partial(function, *args))


class StopSignals:
    """Notes Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 (a Slurm warning) in `number`, so that a run can save before it stops.

    The second signal of a kind has its usual effect. After `restore` all signals have it.
    """

    def __init__(self):
        stop_ending()
        self.number = 0
        self.handlers = {number: signal.signal(number, self._note) for number in heeded()}

    def _note(self, number, _):
        self.number = number
        signal.signal(number, self.handlers[number])

    def name(self) -> str:
        return signal.Signals(int(self.number)).name

    def restore(self) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
