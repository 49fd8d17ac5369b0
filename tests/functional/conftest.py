from __future__ import annotations

from commands import datagen, job, stack
from running import services

__all__ = ["datagen", "job", "services", "stack"]
