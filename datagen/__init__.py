"""datagen: labelled synthetic images from a conditional variational autoencoder, as a service."""

from __future__ import annotations

from importlib.metadata import version as _version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datagen.client import Client

__all__ = ["Client", "__version__"]
__version__ = _version("datagen")


def __getattr__(name: str) -> object:
    # The client pulls in httpx and pydantic: a worker that imports one room need not pay for it.
    if name == "Client":
        from datagen.client import Client  # noqa: PLC0415

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
