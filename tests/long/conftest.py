from __future__ import annotations

from mounts import mounts
from running import services

__all__ = ["mounts", "services"]
