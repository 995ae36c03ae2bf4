"""Where errors become messages and exit codes. Results go to stdout, everything else to stderr."""

from __future__ import annotations

import functools
import io
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

import typer

from vlmdesc.errors import VlmdescError, VlmdescWarning, without_secrets
from vlmdesc.text import counted, shown

DEBUG = "VLMDESC_DEBUG"
NAMED = 10  # broken images named on stderr; all are in the file
INTERRUPTED, DISK, BUG = 130, 4, 1
_KEY_VARIABLE = ContextVar("_KEY_VARIABLE", default="")  # what --api-key-env names, while its command runs


def with_border(command: Callable[..., None]) -> Callable[..., None]:
    """`command` with every error as one line on stderr and the exit code that belongs to it."""

    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        for stream in (sys.stdout, sys.stderr):  # a terminal that cannot show a character shows its escape
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        with warnings.catch_warnings(), _interruptible() as interrupted:
            warnings.simplefilter("always", VlmdescWarning)
            warnings.showwarning = _show_warning  # type: ignore[assignment]
            before = _KEY_VARIABLE.set(kwargs.get("api_key_env", ""))
            try:
                command(*args, **kwargs)
                sys.stdout.flush()
            except VlmdescError as error:
                lines = "".join(f"\n  {shown(line)}" for line in error.details)
                raise _exit(f"error: {error}{lines}", error.exit_code) from error
            except KeyboardInterrupt as error:
                raise _exit("interrupted", INTERRUPTED) from error
            except BrokenPipeError as error:  # the reader of a pipe, such as head, has seen enough
                _drop_stdout()
                raise typer.Exit(0) from error
            except OSError as error:
                _drop_stdout()
                raise _exit(f"error: {shown(error)}; fix: free space, or use another place", DISK) from error
            except (typer.Exit, typer.Abort):
                raise
            except Exception as error:
                if interrupted:  # an interrupt inside a lock's own code comes out as another error
                    raise _exit("interrupted", INTERRUPTED) from error
                what = shown(f"{type(error).__name__}: {error}")
                raise _exit(f"error: {what}; fix: tell us, this is a bug; vlmdesc --debug shows more", BUG) from error
            finally:
                _KEY_VARIABLE.reset(before)

    return run


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """SIGINT and SIGTERM both as KeyboardInterrupt; the list has the signals that came."""
    came: list[int] = []

    def interrupt(number: int, _: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _drop_stdout() -> None:
    """What is still buffered has nowhere to go: without this Python would complain at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(line: str) -> None:
    """One line for people, on stderr, without the secrets of the environment, whatever variable holds the key."""
    print(without_secrets(line, os.environ.get(_KEY_VARIABLE.get(), "")), file=sys.stderr, flush=True)


def say_notes(notes: Iterable[str]) -> None:
    """What a result says besides, on stderr."""
    for sentence in notes:
        say(f"note: {shown(sentence)}")


def say_failed(failed: Sequence[VlmdescError]) -> None:
    """The first of the images that could not be used, on stderr, and how many there were."""
    say_first(failed)
    if len(failed) > NAMED:
        say(f"{counted(len(failed), 'image')} could not be used")


def say_first(failed: Sequence[VlmdescError]) -> None:
    """The first of the images that could not be used, where the others are listed in a file."""
    for error in failed[:NAMED]:
        say(f"error: {error}")


def print_messages(messages: Iterable[Mapping[str, str]]) -> None:
    """The messages of a chat, for people, on stdout."""
    for message in messages:
        print(f"[{shown(message['role'])}]\n" + "\n".join(map(shown, message["content"].split("\n"))) + "\n")


def _exit(line: str, code: int) -> typer.Exit:
    error = sys.exc_info()[1]
    for sentence in getattr(error, "__notes__", ()):
        if sentence not in getattr(error, "details", ()):  # these follow the error
            say(shown(sentence))
    if os.environ.get(DEBUG):
        say(traceback.format_exc().rstrip("\n"))
    say(line)
    return typer.Exit(code)


def _show_warning(message: Warning | str, category: type[Warning], *rest: Any) -> None:
    if issubclass(category, VlmdescWarning):
        say(f"warning: {shown(message)}")
