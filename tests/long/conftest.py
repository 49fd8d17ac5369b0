from __future__ import annotations

from running import services

__all__ = ["services"]
