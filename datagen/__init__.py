"""datagen: labelled synthetic images from a conditional variational autoencoder, as a service."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datagen.client import AsyncClient, Client

    __version__: str

__all__ = ["AsyncClient", "Client", "__version__"]


def __getattr__(name: str) -> object:
    # The client pulls in httpx and pydantic, the version reads the installed metadata: who imports
    # one room, and `datagen --help`, need not pay for them.
    if name in {"AsyncClient", "Client"}:
        from datagen import client  # noqa: PLC0415

        return getattr(client, name)
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("datagen")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
