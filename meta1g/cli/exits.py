"""Commands that end with a code of sysexits(3) for a wrong command line too: EX_USAGE, where click has 2."""
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click


@contextmanager
def _as_usage() -> Iterator[None]:
    try:
        yield
    except click.UsageError as error:
        error.exit_code = os.EX_USAGE  # type: ignore[misc]  # of this one error, not of its class
        raise


class Command(click.Command):
    """A command of its own."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click does."""
        with _as_usage():
            return super().make_context(*args, **kwargs)


class Group(click.Group):
    """A command with commands below it, whose options are read as it is invoked."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click does."""
        with _as_usage():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does."""
        with _as_usage():
            return super().invoke(ctx)
