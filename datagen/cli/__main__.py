"""`python -m datagen.cli` is `datagen`."""

from __future__ import annotations

from datagen.cli import main

main()
