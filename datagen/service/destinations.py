"""Destinations: where the operator lets exports be put, by name."""

from __future__ import annotations

from datagen.errors import InvalidRequest
from datagen.export.manifest import safe_name
from datagen.settings import Settings


def destinations(settings: Settings) -> dict[str, str]:
    """The URL of each destination.

    Raises:
        InvalidRequest: `DATAGEN_EXPORT_DESTINATIONS` cannot be read.
    """
    found: dict[str, str] = {}
    for part in (settings.export_destinations or "").split(","):
        name, equals, url = part.strip().partition("=")
        if not part.strip():
            continue
        if not (equals and name and url) or name in found:
            raise InvalidRequest(
                "DATAGEN_EXPORT_DESTINATIONS cannot be read; write it as "
                "name=s3://bucket/prefix,other=file:///srv/exports, each name once.",
                field="DATAGEN_EXPORT_DESTINATIONS",
            )
        found[name] = url
    return found


def check_destination(settings: Settings, name: str, path: str | None) -> None:
    """Refuse what the operator has not allowed.

    Raises:
        InvalidRequest: an unknown name, or a path that leaves the destination.
    """
    known = destinations(settings)
    if name not in known:
        there = f"there are {', '.join(sorted(known))}" if known else "there are none"
        raise InvalidRequest(
            f"There is no destination {name[:80]!r}; {there}. The operator names them in "
            "DATAGEN_EXPORT_DESTINATIONS.",
            field="destination",
        )
    if path is not None and not safe_name(path):
        raise InvalidRequest(
            f"{path[:80]!r} is no path in a destination; use names and single slashes, without "
            "'..'.",
            field="path",
        )
