"""`datagen backup` and `datagen restore`: a whole service in one folder, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from datagen.cli.db import backends
from datagen.cli.output import AsJson, print_json, progress, say

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The backup's folder.")]


def backup(folder: Folder, as_json: AsJson = False) -> None:
    """Copy all rows and files into a folder; the service may run meanwhile."""
    from datagen.service import backup as backups  # noqa: PLC0415 - slow to load

    with backends() as (_, engine, storage), progress("backing up", "rows and files") as tell:
        made = backups.backup(
            engine, storage, folder, lambda name, done: tell(done, done + 1, name)
        )
    rows, files = sum(made["tables"].values()), len(made["files"])
    if as_json:
        print_json({"folder": str(folder), "rows": rows, "files": files})
    else:
        say(f"{rows:,} rows and {files:,} files are in {folder}")


def restore(folder: Folder, as_json: AsJson = False) -> None:
    """Bring a backup into an empty database and a store; no server may run on them."""
    from datagen.db.migrate import upgrade  # noqa: PLC0415 - slow to load, as the next two
    from datagen.service import backup as backups  # noqa: PLC0415
    from datagen.settings import load_settings  # noqa: PLC0415

    backups.read_manifest(folder)
    settings = load_settings()
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    upgrade(settings.database)
    with backends() as (_, engine, storage), progress("restoring", "rows and files") as tell:
        made = backups.restore(
            engine, storage, folder, lambda name, done: tell(done, done + 1, name)
        )
    rows, files = sum(made["tables"].values()), len(made["files"])
    if as_json:
        print_json({"folder": str(folder), "rows": rows, "files": files})
    else:
        say(f"{rows:,} rows and {files:,} files of {folder} are back.")
