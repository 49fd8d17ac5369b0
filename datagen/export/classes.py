"""`classes.txt`: the class names beside data that has numbers alone, one a line in their order."""

from __future__ import annotations

from collections.abc import Sequence

from datagen.export.sinks import Sink

CLASSES = "classes.txt"


def put_classes(sink: Sink, class_names: Sequence[str], file: str = CLASSES) -> None:
    """Write the names as they are: line N is class N, counted from 0, and ends with a line feed.

    No name has a line feed, or any other control character: datasets with such names are refused.
    """
    sink.put(file, "".join(f"{name}\n" for name in class_names).encode())
