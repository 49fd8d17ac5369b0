"""The Python client: `Client` talks to a datagen server and returns the types of `schemas`."""

from __future__ import annotations

from datagen.client.client import Client

__all__ = ["Client"]
