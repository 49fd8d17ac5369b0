"""The Python client: `Client`, and `AsyncClient` that is awaited, talk to a datagen server."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datagen.client.asynchronous import AsyncClient
    from datagen.client.client import Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> object:
    # Who asks this room for an address alone need not load httpx and the readers of datasets.
    if name == "Client":
        from datagen.client.client import Client  # noqa: PLC0415

        return Client
    if name == "AsyncClient":
        from datagen.client.asynchronous import AsyncClient  # noqa: PLC0415

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
