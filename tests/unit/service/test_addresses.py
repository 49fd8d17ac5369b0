"""Which addresses users may have the service connect to."""

from __future__ import annotations

import pytest

from datagen.errors import InvalidRequest
from datagen.service import addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1", "192.0.0.1",  # noqa: S104
        "192.0.0.9", "192.0.2.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "198.18.0.1",
        "198.19.255.255", "168.63.129.16",
        "::1", "::", "fe80::1", "fc00::1", "fd00:ec2::254", "ff02::1", "100::1", "5f00::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254",
        # Compatible with IPv4, translated here alone, and of a site: all deprecated or private.
        "::127.0.0.1", "::8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::808:808", "fec0::1", "feff::1",
        "2002:7f00:1::", "2002:808:808::", "2001::1", "2001:0:7f00:1::", "2001:2::1", "2001:10::1",
        "2001:20::1", "2001:db8::1", "3ffe::1", "3fff::1", "4000::1",
        "2606:4700::5efe:7f00:1", "2606:4700::200:5efe:a00:1",
    ],
)  # fmt: skip
def test_addresses_inside_are_not_public(address: str) -> None:
    assert not addresses.is_public(address)


@pytest.mark.parametrize("address", ["fe80::1%eth0", "2606:4700::1111%eth0", "8.8.8.8%1"])
def test_address_with_a_zone_is_not_public(address: str) -> None:
    assert not addresses.is_public(address)


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "168.63.129.17", "172.32.0.1", "2606:4700::1111", "64:ff9b::808:808",
     "::ffff:8.8.8.8", "2a00:1450::1"],
)  # fmt: skip
def test_addresses_of_the_internet_are_public(address: str) -> None:
    assert addresses.is_public(address)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "[::1]", "[::ffff:7f00:1]", "0"]
)
def test_url_inside_is_refused_without_its_address(host: str) -> None:
    with pytest.raises(InvalidRequest, match="not public") as caught:
        addresses.refuse_inside(f"http://{host}:9/hook", "url")
    assert caught.value.field == "url"
    if host == "localhost":
        assert "127.0.0.1" not in caught.value.detail
        assert "::1" not in caught.value.detail


@pytest.mark.parametrize("url", ["https://8.8.8.8/hook", "https://nosuch.invalid/hook"])
def test_public_host_and_one_that_is_not_there_yet_are_kept(url: str) -> None:
    addresses.refuse_inside(url, "url")
