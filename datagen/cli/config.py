"""`datagen config …`: show, set, list, remove."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from datagen.cli.output import AsJson, print_json, print_table, say, usage_error

if TYPE_CHECKING:
    from datagen.settings import Settings

group = typer.Typer(
    name="config",
    help="Settings that count here, and servers by name: show, set, list, remove.",
)

HIDDEN = "***"
_KEY = re.compile(r"(dg_[0-9a-z]+)_.*", re.ASCII)
_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the server, as you call it.")]


@group.command("show")
def show_config(as_json: AsJson = False) -> None:
    """Show every setting, where it comes from, and the server that commands talk to."""
    from datagen.embedded import running_stack  # noqa: PLC0415 - slow to load, as the next
    from datagen.settings import load_settings  # noqa: PLC0415

    settings = load_settings()
    stack = running_stack(settings.home)
    server = settings.url or (None if stack is None else stack.url)
    rows = {name: _shown(settings, name) for name in type(settings).model_fields}
    if as_json:
        print_json({"server": server, "settings": rows})
        return
    say(f"server: {server or 'none runs; commands start one for themselves'}")
    print_table(
        ["setting", "value", "from"],
        [
            (f"DATAGEN_{name.upper()}", "" if row["value"] is None else row["value"], row["from"])
            for name, row in rows.items()
        ],
    )


def _shown(settings: Settings, name: str) -> dict[str, Any]:
    value = getattr(settings, name)
    if hasattr(value, "get_secret_value"):
        value = _KEY.sub(rf"\1_{HIDDEN}", value.get_secret_value())
        value = value if value.endswith(HIDDEN) else HIDDEN
    elif isinstance(value, str):
        value = _PASSWORD.sub(rf"\1{HIDDEN}@", value)
    elif value is not None and not isinstance(value, int | float):
        value = str(value)
    if os.environ.get(f"DATAGEN_{name.upper()}"):
        return {"value": value, "from": "environment"}
    named = settings.profile is not None and name in {"url", "api_key"} and value is not None
    return {"value": value, "from": f"profile {settings.profile}" if named else "default"}


@group.command("set")
def set_profile(
    name: Name,
    url: Annotated[str, typer.Option(help="Such as https://datagen.example.")],
    api_key: Annotated[
        str | None, typer.Option(help="The key for it; kept in a file that only you can read.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Keep a server under a name; the same name again changes it."""
    from datagen.client.address import find_address  # noqa: PLC0415 - slow to load, as the next
    from datagen.settings import load_settings, read_profiles, write_profiles  # noqa: PLC0415

    if not _NAME.fullmatch(name):
        raise usage_error(
            f"The name is {name!r}; give lower-case letters, digits, '.', '_' and '-', at most 64."
        )
    settings = load_settings(profile=None)
    address = find_address(settings, url, api_key or "none")
    kept: dict[str, str] = {"url": address.url}
    if api_key is not None:
        kept["api_key"] = api_key
    profiles = {key: dict(one) for key, one in read_profiles(settings.home).items()}
    profiles[name] = kept
    write_profiles(settings.home, profiles)
    if as_json:
        print_json({"name": name, "url": address.url})
    else:
        say(f"{name} is {address.url}; use it with: datagen --profile {name} job list")


@group.command("list")
def list_profiles(as_json: AsJson = False) -> None:
    """List the servers that have names."""
    from datagen.settings import load_settings, read_profiles  # noqa: PLC0415 - slow to load

    found = read_profiles(load_settings(profile=None).home)
    if as_json:
        print_json({"items": [{"name": name, "url": one["url"]} for name, one in found.items()]})
        return
    print_table(
        ["name", "server", "key"],
        [(name, one["url"], "yes" if one.get("api_key") else "no") for name, one in found.items()],
    )


@group.command("remove")
def remove_profile(name: Name, as_json: AsJson = False) -> None:
    """Forget a server."""
    from datagen.errors import NotFound  # noqa: PLC0415 - slow to load, as the next
    from datagen.settings import load_settings, read_profiles, write_profiles  # noqa: PLC0415

    home = load_settings(profile=None).home
    found = dict(read_profiles(home))
    if name not in found:
        raise NotFound(f"There is no server {name!r}; `datagen config list` shows them.")
    del found[name]
    write_profiles(home, found)
    print_json({"removed": name}) if as_json else say(f"{name} is forgotten.")
