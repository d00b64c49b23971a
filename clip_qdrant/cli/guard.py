"""One place where an error becomes a line and an exit code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import typer

from clip_qdrant.cli import output
from clip_qdrant.errors import ClipQdrantError

_Command = TypeVar("_Command", bound=Callable[..., None])

INTERRUPTED = 130


def guarded(command: _Command) -> _Command:
    """Let a command that takes `debug` fail in one line; with it, errors come through with their traceback."""

    @functools.wraps(command)
    def run(*args: Any, debug: bool = False, **kwargs: Any) -> None:
        try:
            command(*args, debug=debug, **kwargs)
        except KeyboardInterrupt:
            output.note("Interrupted. What was written is kept; the same command goes on from there.")
            raise typer.Exit(INTERRUPTED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if debug:
                raise
            kind = "" if isinstance(error, ClipQdrantError) else f"{type(error).__name__}: "
            output.error(f"{kind}{error}")
            raise typer.Exit(1) from None

    return run  # type: ignore[return-value]
