"""The Python client: `Client` talks to a datagen server and returns the types of `schemas`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datagen.client.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> object:
    # Who asks this room for an address alone need not load httpx and the readers of datasets.
    if name == "Client":
        from datagen.client.client import Client  # noqa: PLC0415

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
