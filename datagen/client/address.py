"""Where the server is and which key opens it: arguments, then settings, then the state folder."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from datagen.errors import InvalidRequest, ServerUnreachable
from datagen.settings import Settings

SERVER_FILE = "server.json"
KEY_FILE = "api-key"


@dataclass(frozen=True)
class Address:
    """A server's base URL, and the key for it if one was found."""

    url: str
    api_key: str | None

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, where no proxy stands between."""
        return is_loopback(urlsplit(self.url).hostname or "")


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_address(settings: Settings, url: str | None, api_key: str | None) -> Address:
    """The server that arguments, `DATAGEN_URL` or a stack running on the home name, in this order.

    The key in the home is sent only to the server of that home, never to one named elsewhere.

    Raises:
        InvalidRequest: the URL is not one of http or https, or the key has characters no key has.
        ServerUnreachable: no server is named, and none has written its address to the home.
    """
    own_url = _running_url(settings.home)
    found_url = url or settings.url or own_url
    if found_url is None:
        raise ServerUnreachable(
            f"DATAGEN_URL names no server, and none runs on {settings.home}; "
            "start one with `datagen up`."
        )
    found_url = _checked_url(found_url)
    found_key = api_key or (settings.api_key.get_secret_value() if settings.api_key else None)
    if found_key is None and own_url is not None and found_url == own_url.rstrip("/"):
        found_key = _key_of(settings.home)
    return Address(found_url, _checked_key(found_key))


def _running_url(home: Path) -> str | None:
    try:
        url = json.loads((home / SERVER_FILE).read_text(encoding="utf-8"))["url"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return url if isinstance(url, str) else None


def _key_of(home: Path) -> str | None:
    try:
        return (home / KEY_FILE).read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def _checked_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest(
            f"The server's URL is {url!r}; give one such as http://127.0.0.1:8000.",
            field="DATAGEN_URL",
        )
    return url.rstrip("/")


def _checked_key(key: str | None) -> str | None:
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise InvalidRequest(
            "The API key has spaces or characters that no key has; give it as it was shown.",
            field="DATAGEN_API_KEY",
        )
    return key
