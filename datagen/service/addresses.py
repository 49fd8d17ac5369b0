"""Addresses: which hosts the service may connect to because a user has named them.

Every connection to a place that a user names goes through here. Python's own `is_global` differs
between versions and leaves out what is deprecated; the libraries that were looked at leave out some
of the ranges below (docs/decisions/0029). So the ranges are listed, from IANA's registries of
special-purpose addresses and the RFCs that deprecated the others.
"""

from __future__ import annotations

import ipaddress
import socket
import threading
import time
from urllib.parse import urlsplit

from datagen.errors import InvalidRequest

# Lookups of one process at once: one whose name server is silent outlives whoever waits for it.
MOST_LOOKUPS = 64
# How long a request to the API waits for a lookup.
LOOKUP_SECONDS = 3.0

_INSIDE_IPV4 = tuple(
    map(
        ipaddress.IPv4Network,
        (
            "0.0.0.0/8",  # this network, RFC 791
            "10.0.0.0/8",  # private, RFC 1918
            "100.64.0.0/10",  # shared by providers, RFC 6598
            "127.0.0.0/8",  # loopback, RFC 1122
            "168.63.129.16/32",  # Azure's platform, which answers virtual machines alone
            "169.254.0.0/16",  # link-local, RFC 3927
            "172.16.0.0/12",  # private, RFC 1918
            "192.0.0.0/24",  # protocol assignments, RFC 6890
            "192.0.2.0/24",  # documentation, RFC 5737
            "192.88.99.0/24",  # relays of 6to4, deprecated by RFC 7526
            "192.168.0.0/16",  # private, RFC 1918
            "198.18.0.0/15",  # benchmarking, RFC 2544
            "198.51.100.0/24",  # documentation, RFC 5737
            "203.0.113.0/24",  # documentation, RFC 5737
            "224.0.0.0/4",  # multicast, RFC 5771
            "240.0.0.0/4",  # reserved, and the broadcast, RFC 1112
        ),
    )
)
# Outside of this nothing is given out as a public address (IANA's IPv6 address space).
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_INSIDE_IPV6 = tuple(
    map(
        ipaddress.IPv6Network,
        (
            # Protocol assignments, RFC 2928: among them Teredo (2001::/32), benchmarking
            # (2001:2::/48) and both ORCHIDs (2001:10::/28, 2001:20::/28).
            "2001::/23",
            "2001:db8::/32",  # documentation, RFC 3849
            "2002::/16",  # 6to4, deprecated by RFC 7526
            "3ffe::/16",  # the 6bone, ended by RFC 3701
            "3fff::/20",  # documentation, RFC 9637
        ),
    )
)
# An IPv4 address is packed into these two: it is where they go in the end.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
# The first half of an interface identifier of ISATAP, RFC 5214, with and without its global bit.
_ISATAP = (0x0000_5EFE, 0x0200_5EFE)

_lookups = threading.BoundedSemaphore(MOST_LOOKUPS)


class LookupFailed(Exception):
    """A name that no address was found of; its text says why."""


def is_public(address: str) -> bool:
    """Whether an IP address is one of the internet's, and of no network inside.

    One with a zone is not: a zone is a network interface of this machine.
    """
    if "%" in address:
        return False
    found = ipaddress.ip_address(address)
    if isinstance(found, ipaddress.IPv4Address):
        return not any(found in network for network in _INSIDE_IPV4)
    if found in _MAPPED or found in _NAT64:
        return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)))
    if int(found) >> 32 & 0xFFFF_FFFF in _ISATAP:
        return False
    return found in _GLOBAL_IPV6 and not any(found in network for network in _INSIDE_IPV6)


def lookup(host: str, port: int, seconds: float) -> list[str]:
    """The addresses of a host, those to try first in front.

    The system's lookup knows no deadline, so it has a thread of its own, which is left behind.

    Raises:
        LookupFailed: there are none, or none was found in so many seconds.
    """
    deadline = time.monotonic() + seconds
    late = LookupFailed(f"the name {host!r} was not found within {seconds:.0f} s")
    if not _lookups.acquire(timeout=seconds):
        raise late
    found: list[str] = []
    errors: list[Exception] = []

    def look() -> None:
        try:
            answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.extend(str(one[4][0]) for one in answers)
        except (OSError, UnicodeError) as error:
            errors.append(error)
        finally:
            _lookups.release()

    thread = threading.Thread(target=look, name="lookup", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        # The machine has no thread left.
        _lookups.release()
        raise late from None
    thread.join(max(0.0, deadline - time.monotonic()))
    if errors:
        raise LookupFailed(f"the name {host!r} is not found ({errors[0]})")
    if thread.is_alive() or not found:
        raise late
    return found


def refusal(host: str) -> str:
    """Why nothing is sent to a host inside; it does not say which address the host has."""
    return (
        f"The host {host!r} has an address that is not public; name a public one, or have "
        "the operator set DATAGEN_WEBHOOKS_PRIVATE=true where webhooks may go inside."
    )


def refuse_inside(url: str, field: str) -> None:
    """Refuse a URL whose host has an internal address, before it is stored.

    A name that has no address now is accepted: the receiver may be set up later, what is stored
    must not depend on whether a name server answers, and each connection looks again.

    Raises:
        InvalidRequest: the host has an address that is not public.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        found = lookup(host, parts.port or 0, LOOKUP_SECONDS)
    except LookupFailed:
        return
    if not all(map(is_public, found)):
        raise InvalidRequest(refusal(host), field=field)
