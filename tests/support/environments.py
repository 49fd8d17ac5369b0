"""Environments of processes under test, without a setting of whoever runs the tests."""

from __future__ import annotations

import os

_PREFIX = "DATAGEN_"


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of datagen."""
    return {name: text for name, text in os.environ.items() if not name.startswith(_PREFIX)}


def as_variables(**settings: object) -> dict[str, str]:
    """Settings as the variables that set them."""
    return {f"{_PREFIX}{name.upper()}": str(value) for name, value in settings.items()}
