from __future__ import annotations

import pytest

from datagen.errors import InvalidRequest
from datagen.service.destinations import check_destination, destinations
from datagen.settings import Settings

SETTINGS = Settings(export_destinations="bucket=s3://b/sets, disk=file:///srv/sets")


def test_destinations_are_named_by_the_operator() -> None:
    assert destinations(SETTINGS) == {"bucket": "s3://b/sets", "disk": "file:///srv/sets"}
    assert destinations(Settings()) == {}


@pytest.mark.parametrize("text", ["s3://b", "a=", "=s3://b", "a=s3://b,a=s3://c"])
def test_setting_that_cannot_be_read_is_an_error_without_its_urls(text: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be read; write it as") as told:
        destinations(Settings(export_destinations=text))
    assert "s3://b," not in told.value.detail


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="no destination 'attic'; there are bucket, disk"):
        check_destination(SETTINGS, "attic", None)
    with pytest.raises(InvalidRequest, match="there are none"):
        check_destination(Settings(), "attic", None)


@pytest.mark.parametrize("path", ["../x", "/x", "a//b", "a/../b", "", "a\\b", "a\nb", "."])
def test_path_that_leaves_the_destination_is_refused(path: str) -> None:
    with pytest.raises(InvalidRequest, match="is no path in a destination") as told:
        check_destination(SETTINGS, "bucket", path)
    assert told.value.field == "path"


def test_path_within_it_is_fine() -> None:
    check_destination(SETTINGS, "bucket", "defects/2026-11-26")
