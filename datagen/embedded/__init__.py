"""The one-machine stack: broker, API, workers and beat under one supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from datagen.embedded.home import RunningStack, Workers, running_stack

if TYPE_CHECKING:
    from datagen.embedded.stack import EmbeddedStack

__all__ = ["EmbeddedStack", "RunningStack", "Workers", "running_stack"]


def __getattr__(name: str) -> object:
    # Asking whether a stack runs must be quick; only starting one needs the database's packages.
    if name == "EmbeddedStack":
        from datagen.embedded.stack import EmbeddedStack  # noqa: PLC0415

        return EmbeddedStack
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
