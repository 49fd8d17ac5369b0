from __future__ import annotations

import pytest

from datagen.export.licences import card_licence, licence_url, spdx_of


@pytest.mark.parametrize(
    ("licence", "spdx", "url", "card"),
    [
        (
            "cc-by-4.0",
            "CC-BY-4.0",
            "https://spdx.org/licenses/CC-BY-4.0.html",
            {"license": "cc-by-4.0"},
        ),
        (
            "CC BY-SA 3.0",
            "CC-BY-SA-3.0",
            "https://spdx.org/licenses/CC-BY-SA-3.0.html",
            {"license": "cc-by-sa-3.0"},
        ),
        ("mit", "MIT", "https://spdx.org/licenses/MIT.html", {"license": "mit"}),
        (
            "mit or apache-2.0",
            "MIT OR Apache-2.0",
            "MIT OR Apache-2.0",
            {"license": "other", "license_name": "MIT OR Apache-2.0"},
        ),
        (
            "for use inside the house",
            None,
            "for use inside the house",
            {"license": "other", "license_name": "for use inside the house"},
        ),
        (
            "https://example.org/terms",
            None,
            "https://example.org/terms",
            {"license": "other", "license_name": "https://example.org/terms"},
        ),
    ],
)
def test_licence_is_written_as_catalogues_know_it(
    licence: str, spdx: str | None, url: str, card: dict[str, str]
) -> None:
    assert spdx_of(licence) == spdx
    assert licence_url(licence) == url
    assert card_licence(licence) == card


def test_licence_that_nobody_named_is_unknown() -> None:
    assert card_licence(None) == {"license": "unknown"}
