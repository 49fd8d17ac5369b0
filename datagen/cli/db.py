"""`datagen db …`: upgrade."""

from __future__ import annotations

import typer

from datagen.cli.output import AsJson, print_json, say

group = typer.Typer(name="db", help="The database: upgrade.")


@group.command("upgrade")
def upgrade_database(as_json: AsJson = False) -> None:
    """Bring the database's schema to this version's."""
    from datagen.db.migrate import upgrade  # noqa: PLC0415 - Alembic is slow to load
    from datagen.settings import load_settings  # noqa: PLC0415 - likewise

    revision = upgrade(load_settings().database)
    if as_json:
        print_json({"revision": revision})
    else:
        say(f"The database is at revision {revision}.")
