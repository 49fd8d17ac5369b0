"""JSON documents whose labels are many, read one value at a time."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

from datagen.errors import InvalidFile

# No single value that is honest comes near to this: names of all classes, at most.
MAX_VALUE_CHARS = 16 << 20
_FIRST_CHARS = 1 << 16
_SPACE = " \t\r\n"

Place = tuple[str, ...]


def json_parts(file: IO[bytes], name: str, streamed: str) -> Iterator[tuple[Place, Any]]:
    """The members of the outermost object, and one by one what is in one of them.

    Args:
        file: the document in UTF-8.
        name: of the file, for errors.
        streamed: the member whose items or members are given singly.

    Yields:
        `(key,)` and value of each member. Of the streamed one, where it holds several values, first
        an empty value of its kind and then each as `(streamed, key)`, or `(streamed, "3")` for the
        fourth of a list.

    Raises:
        InvalidFile: no JSON, no object, damaged, or a value of more than 16 Mi characters.
    """
    text = _Text(file, name)
    try:
        text.expect("{")
        for key in text.object_keys():
            if key != streamed or text.next() not in "{[":
                yield (key,), text.value()
                continue
            yield from _streamed(text, key)
        if text.next():
            raise text.damaged("it goes on after its end")
    except RecursionError:
        raise text.damaged("it is nested too deeply") from None
    except UnicodeDecodeError as error:
        raise text.damaged(str(error)) from None


def _streamed(text: _Text, key: str) -> Iterator[tuple[Place, Any]]:
    if text.next() == "{":
        yield (key,), {}
        text.expect("{")
        for inner in text.object_keys():
            yield (key, inner), text.value()
        return
    yield (key,), []
    text.expect("[")
    number = 0
    while text.goes_on("]", first=number == 0):
        yield (key, str(number)), text.value()
        number += 1


class _Text:
    """The document's text, of which only what is being looked at is held."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._text = codecs.getincrementaldecoder("utf-8-sig")()
        self._name = name
        self._decoder = json.JSONDecoder()
        self._held, self._at, self._ended = "", 0, False

    def damaged(self, what: str) -> InvalidFile:
        return InvalidFile(f"{self._name} is not a readable JSON document: {what}.")

    def next(self) -> str:
        """The next character that is no space, which is not taken; nothing at the end."""
        while True:
            while self._at < len(self._held):
                if self._held[self._at] not in _SPACE:
                    return self._held[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._more(_FIRST_CHARS)

    def expect(self, wanted: str) -> None:
        found = self.next()
        if found != wanted:
            raise self.damaged(f"{found!r} stands where {wanted!r} should")
        self._at += 1

    def goes_on(self, end: str, *, first: bool) -> bool:
        """Whether one more value comes; takes the comma before it, or the end."""
        if self.next() == end:
            self._at += 1
            return False
        if not first:
            self.expect(",")
        return True

    def object_keys(self) -> Iterator[str]:
        """The keys of an object; each one's value is to be taken before the next."""
        first = True
        while self.goes_on("}", first=first):
            first = False
            key = self.value()
            if not isinstance(key, str):
                raise self.damaged(f"the key {str(key)[:40]!r} is not text")
            self.expect(":")
            yield key

    def value(self) -> Any:
        size = _FIRST_CHARS
        while True:
            self.next()
            try:
                value, end = self._decoder.raw_decode(self._held, self._at)
            except ValueError as error:
                if self._ended or len(self._held) - self._at > MAX_VALUE_CHARS:
                    raise self.damaged(str(error)) from None
            else:
                # A number that ends where what is held ends may go on.
                if end < len(self._held) or self._ended:
                    self._at = end
                    return value
            self._more(size)
            size *= 2

    def _more(self, size: int) -> None:
        read = self._file.read(size)
        self._ended = not read
        self._held = self._held[self._at :] + self._text.decode(read, final=self._ended)
        self._at = 0
