"""What the labels of a WebDataset mean: decided once, for all of its samples.

A sample has a `.cls`, a `.json` or a `.txt` beside its picture. A `.cls` is a number of a class or
its name; a `.json` may hold a label or only where the picture comes from; a `.txt` is a label in
some sets and a caption in most.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from datagen.datasets.labels import label_of
from datagen.datasets.listing import nfc
from datagen.errors import InvalidFile

LABEL_ENDINGS = (".cls", ".json", ".txt")
NAME_KEYS = ("label_name", "class_name")
LABEL_KEYS = (*NAME_KEYS, "label", "class", "cls", "category")
# Texts that are another for more than every tenth picture are captions.
IMAGES_A_CLASS = 10
_MAX_TEXTS = 100_001
_MAX_TEXT = 200
_NUMBER = re.compile(r"[0-9]{1,18}")


@dataclass
class Labels:
    """Labels of all samples, as far as they tell what they mean.

    Attributes:
        given: the classes by number, where the data came with a list.
        samples: how many there are.
    """

    given: tuple[str, ...] | None = None
    samples: int = 0
    _classes: set[str] = field(default_factory=set)
    _texts: set[str] = field(default_factory=set)
    _documents: int = 0
    _names: dict[str, set[str]] = field(default_factory=dict)
    _named: int = 0
    _with_class: int = 0
    _source: str = ""
    _by_number: dict[str, str] | None = None

    def add(self, parts: Mapping[str, bytes]) -> None:
        """Look at the labels of one sample."""
        self.samples += 1
        document = _document(parts)
        labelled = _key(document) is not None
        self._documents += labelled
        text = _text(parts, ".cls")
        self._with_class += ".cls" in parts
        if text:
            self._classes.add(text)
            name = next((document[key] for key in NAME_KEYS if document.get(key)), None)
            if isinstance(name, str):
                self._named += 1
                self._names.setdefault(text, set()).add(nfc(name))
        if ".txt" in parts and len(self._texts) < _MAX_TEXTS:
            self._texts.add(_text(parts, ".txt")[:_MAX_TEXT])

    def decide(self) -> None:
        """Settle what labels mean. Raises InvalidFile where they mean nothing that is certain."""
        if self._with_class:
            self._source = ".cls"
            self._by_number = self._numbers()
        elif self._documents:
            self._source = ".json"
        elif self._texts and self._texts_are_labels():
            self._source = ".txt"
        elif self._texts:
            some = min(self._texts)
            raise InvalidFile(
                f"The .txt files hold {len(self._texts):,} texts for {self.samples:,} images, such "
                f"as {some[:60]!r}: captions, not labels. Put the class of each image into a .cls "
                "or .json file."
            )

    def _texts_are_labels(self) -> bool:
        few = len(self._texts) * IMAGES_A_CLASS <= self.samples
        known = self.given is not None and self._texts <= set(self.given)
        return few or known or all(_NUMBER.fullmatch(text) for text in self._texts)

    def _numbers(self) -> dict[str, str] | None:
        """The name of each number in `.cls`; None where they are names themselves."""
        numeric = all(_NUMBER.fullmatch(text) for text in self._classes)
        if self.given is not None:
            if numeric and all(int(text) < len(self.given) for text in self._classes):
                return {text: self.given[int(text)] for text in self._classes}
            unknown = sorted(self._classes - set(self.given))
            if unknown:
                raise InvalidFile(
                    f"The label {unknown[0][:80]!r} is neither one of the {len(self.given):,} "
                    "classes that the list beside the images names, nor the number of one."
                )
            return None
        numbers = {text for text in self._classes if _NUMBER.fullmatch(text)}
        if numbers and not numeric:
            raise InvalidFile(
                f"Some .cls files hold numbers, such as {min(numbers)!r}, and others names, such "
                f"as {min(self._classes - numbers)!r}; write one kind in all of them."
            )
        pairs = {text: next(iter(names)) for text, names in self._names.items() if len(names) == 1}
        one_each = len(set(pairs.values())) == len(self._classes) == len(pairs)
        if numeric and one_each and self._named == self._with_class:
            return pairs
        return None

    def class_names(self) -> tuple[str, ...] | None:
        """The classes in their order, where the data has one."""
        if self.given is not None:
            return self.given
        if self._by_number is None:
            return None
        return tuple(self._by_number[text] for text in sorted(self._by_number, key=int))

    def label(self, name: str, parts: Mapping[str, bytes]) -> tuple[str | None, str | None]:
        """The label of a sample, and what is wrong with it."""
        if self._source in {".cls", ".txt"} and self._source in parts:
            text = _text(parts, self._source)
            if not text:
                return None, f"{name}{self._source} holds no label."
            return self._named_text(text), None
        if ".json" in parts and self._source in {"", ".json"}:
            return self._from_document(name, parts)
        beside = "there is no .cls or .json beside it"
        return None, f"{name} has no label: {beside if not self._source else f'no {self._source}'}."

    def _named_text(self, text: str) -> str:
        if self._source == ".cls":
            return text if self._by_number is None else self._by_number[text]
        number = int(text) if _NUMBER.fullmatch(text) else -1
        if self.given is not None and text not in self.given and 0 <= number < len(self.given):
            return self.given[number]
        return text

    def _from_document(
        self, name: str, parts: Mapping[str, bytes]
    ) -> tuple[str | None, str | None]:
        try:
            document = json.loads(parts[".json"])
        except (ValueError, RecursionError) as error:
            return None, f"{name}.json is not JSON: {error}."
        found = document if isinstance(document, dict) else {}
        key = _key(found)
        if key is None:
            return None, f"{name}.json names no label."
        value = found[key]
        try:
            return label_of(value, None if isinstance(value, str) else self.given), None
        except ValueError as error:
            return None, f"{name}.json has a label that {error}."


def has_label(parts: Mapping[str, bytes]) -> bool:
    """Whether a JSON file beside a picture names a label."""
    return _key(_document(parts)) is not None


def _key(document: Mapping[str, object]) -> str | None:
    return next((key for key in LABEL_KEYS if document.get(key) is not None), None)


def _document(parts: Mapping[str, bytes]) -> Mapping[str, object]:
    try:
        document = json.loads(parts.get(".json", b"null"))
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _text(parts: Mapping[str, bytes], ending: str) -> str:
    return nfc(parts.get(ending, b"").decode(errors="replace").strip())
