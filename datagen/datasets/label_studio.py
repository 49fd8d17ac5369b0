"""Label Studio's JSON exports of single choices, one task an image.

A task has `data`, with the image's address in one of its fields, and `annotations`, each with a
list `result` of what was chosen. https://labelstud.io/guide/export
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from datagen.datasets.listing import ENDINGS
from datagen.errors import InvalidFile


def flattened(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A task as a row of `image` and `choice`; rows of other tables as they are.

    Raises:
        InvalidFile: several choices, annotations that differ, or boxes instead of choices.
    """
    if isinstance(row.get("data"), dict) and isinstance(row.get("annotations"), list):
        return {"image": _image(row["data"]), "choice": _choice(row["annotations"], where)}
    image = row.get("image")
    if isinstance(image, str) and "choice" in row and "annotator" in row:
        # The short form, which Label Studio calls JSON-MIN.
        return {**row, "image": _file(image)}
    return row


def _image(data: dict[str, Any]) -> str | None:
    for value in (data.get("image"), *data.values()):
        if isinstance(value, str) and PurePosixPath(_file(value)).suffix.lower() in ENDINGS:
            return _file(value)
    return None


def _file(address: str) -> str:
    """The file's name of an upload's or a local file's address."""
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    path = unquote(local[0] if local else parts.path)
    if path.startswith(("/data/", "/")) or parts.scheme:
        return PurePosixPath(path).name
    return path


def _choice(annotations: list[Any], where: str) -> str | None:
    chosen: set[str] = set()
    for annotation in annotations:
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        results = annotation.get("result") or []
        for result in results if isinstance(results, list) else [results]:
            chosen.update(_choices(result, where))
    if len(chosen) > 1:
        raise InvalidFile(
            f"{where} of Label Studio has the choices {', '.join(sorted(chosen))[:200]}; one an "
            "image is needed."
        )
    return chosen.pop() if chosen else None


def _choices(result: Any, where: str) -> list[str]:
    whole = result if isinstance(result, dict) else {}
    value = whole.get("value")
    choices = value.get("choices") if isinstance(value, dict) else None
    if not isinstance(choices, list):
        kind = str(whole.get("type", "unknown"))[:40]
        raise InvalidFile(
            f"{where} of Label Studio holds a result of the type {kind!r}; single choices are read."
        )
    return [str(choice) for choice in choices]
