"""Settings, read once at the edges from `DATAGEN_*` and handed down as a value.

Nothing below the command line, the API's factory and the workers' entry point reads the
environment.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from datagen.durations import seconds_of
from datagen.errors import InvalidRequest

PROFILES = "profiles.json"

Seconds = Annotated[float, Field(gt=0, le=7 * 86_400)]


class Settings(BaseSettings):
    """What one process of datagen needs to know; the README's table lists the public ones."""

    model_config = SettingsConfigDict(
        env_prefix="DATAGEN_", env_ignore_empty=True, frozen=True, extra="ignore"
    )

    home: Path = Field(
        default=Path("~/.datagen"),
        description="State folder of the one-machine stack: database, storage, broker, local key.",
    )
    url: str | None = Field(
        default=None, description="Server that the client and the command line talk to."
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="Key that the client sends; `datagen api` accepts it as an administrator's.",
    )
    profile: str | None = Field(
        default=None,
        description="Server of this name in profiles.json of the home, where no URL is named; "
        "`datagen config` keeps them.",
    )
    database_url: str | None = Field(
        default=None,
        description="SQLAlchemy URL: sqlite:///… or postgresql+psycopg://…; "
        "default: datagen.db in the home.",
    )
    broker_url: str | None = Field(
        default=None,
        description="Redis or Valkey for messages; default: the embedded Valkey's socket.",
    )
    storage_url: str | None = Field(
        default=None,
        description="Object store: file:///…, s3://bucket/prefix; default: storage/ in the home.",
    )
    dataset_roots: str | None = Field(
        default=None,
        description="Where datasets may be read from by URL, separated by commas: "
        "s3://bucket/data, file:///srv/data; default: nowhere.",
    )
    workers: int | None = Field(
        default=None, ge=1, le=1024, description="Worker processes with torch; default: one a core."
    )
    batch_size: int = Field(
        default=2000,
        ge=1,
        le=65_536,
        description="Images in a batch, the unit of work and of storage.",
    )
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto, cpu, cuda or cuda:N.",
    )
    max_attempts: int = Field(
        default=8,
        ge=1,
        le=100,
        description="Starts of a batch, export or training before it fails.",
    )
    window: int = Field(
        default=64,
        ge=1,
        le=100_000,
        description="Batches that are queued or running at once, over all jobs; "
        "at least twice the number of worker processes.",
    )
    lease_seconds: Seconds = Field(
        default=15.0, description="How long a silent worker keeps what it claimed."
    )
    tick_seconds: Seconds = Field(default=5.0, description="How often beat looks for stale work.")
    resend_seconds: Seconds = Field(
        default=30.0, description="After how long a queued batch's message counts as lost."
    )
    backoff_seconds: Seconds = Field(
        default=1.0, description="Wait before the second attempt; doubles, up to 30 seconds."
    )
    export_destinations: str | None = Field(
        default=None,
        description="Where exports may be put, by name: bucket=s3://bucket/sets,"
        "disk=file:///srv/sets; default: nowhere.",
    )
    export_ttl: float | None = Field(
        default=None,
        gt=0,
        le=100 * 365 * 86_400,
        description="How long an export is kept, in seconds or as 12h or 30d; for ever by default. "
        "The same request gives the same export again.",
    )
    sweep_seconds: Seconds = Field(
        default=3600.0, description="Age at which a stored file that no row names is removed."
    )
    slice_seconds: Seconds = Field(
        default=180.0, description="Length of one slice of a training; its task queues the next."
    )
    quota_images: int = Field(
        default=50_000_000,
        ge=0,
        description="Images that an owner may have, unless told otherwise.",
    )
    quota_bytes: int | None = Field(
        default=None, ge=0, description="Bytes that an owner may keep; any number by default."
    )
    quota_jobs: int | None = Field(
        default=None, ge=0, description="Jobs of an owner that are at work at once, likewise."
    )
    quota_uploads: int | None = Field(
        default=None, ge=0, description="Versions of datasets that an owner keeps, likewise."
    )
    pipeline_seconds: Seconds = Field(
        default=300.0, description="Least time between two due times of a pipeline."
    )
    webhooks_private: bool = Field(
        default=False,
        description="Whether webhooks may go to addresses that are not public: true or false.",
    )
    rate_limit: str | None = Field(
        default=None,
        pattern=r"^[1-9]\d{0,8}/(second|minute|hour|day)$",
        description="Requests that a key may make, such as 600/minute; any number by default.",
    )
    wrong_key_limit: str | None = Field(
        default="30/minute",
        pattern=r"^[1-9]\d{0,8}/(second|minute|hour|day)$",
        description="Wrong keys that may come from an address before they are 429; any number if "
        "empty.",
    )
    max_body_bytes: int = Field(
        default=1_000_000, ge=1024, description="Largest body of a request, uploads aside."
    )
    max_upload_bytes: int = Field(
        default=8_000_000_000, ge=1024, description="Largest uploaded dataset."
    )

    reader_memory_bytes: int = Field(
        default=2_000_000_000,
        ge=64_000_000,
        description="Memory that the reading of one uploaded file may take (on Linux).",
    )
    reader_seconds: Seconds = Field(
        default=3600.0, description="Longest time that the reading of one uploaded file may take."
    )
    readers: int = Field(
        default=2, ge=1, le=1024, description="Uploaded files that are read at once; others wait."
    )

    @field_validator("home", mode="after")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        try:
            home = home.expanduser()
        except RuntimeError:
            raise ValueError("this user's home folder is not known; give a full path") from None
        return Path(os.path.abspath(home))  # noqa: PTH100 - resolve() follows links

    @field_validator(
        "url",
        "database_url",
        "broker_url",
        "storage_url",
        "api_key",
        "dataset_roots",
        "rate_limit",
        "wrong_key_limit",
        "profile",
        mode="before",
    )
    @classmethod
    def _blank_is_absent(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("export_ttl", mode="before")
    @classmethod
    def _duration(cls, value: object) -> object:
        return (seconds_of(value) or value) if isinstance(value, str) else value

    @property
    def database(self) -> str:
        """URL of the database that this process uses."""
        return self.database_url or f"sqlite:///{quote(str(self.home / 'datagen.db'))}"

    @property
    def storage(self) -> str:
        """URL of the object store that this process uses."""
        return self.storage_url or (self.home / "storage").as_uri()


def load_settings(**overrides: Any) -> Settings:
    """Read `DATAGEN_*`, with explicit values on top, and the server that a profile names.

    Raises:
        InvalidRequest: a variable has a value that cannot be used; `field` names it.
    """
    try:
        return _with_profile(Settings(**overrides))
    except ValidationError as error:
        first = error.errors()[0]
        name = "DATAGEN_" + "_".join(str(part) for part in first["loc"]).upper()
        wrong = first["msg"].removeprefix("Value error, ")
        raise InvalidRequest(
            f"{name} is {first['input']!r}, which cannot be used: {wrong}.", field=name
        ) from None


def read_profiles(home: Path) -> dict[str, dict[str, str]]:
    """Servers by the names that a user gave them: `url`, and `api_key` where there is one.

    Raises:
        InvalidRequest: the file is there and cannot be read.
    """
    path = home / PROFILES
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InvalidRequest(
            f"{path} cannot be read ({error}); mend it, or remove it.", field="DATAGEN_PROFILE"
        ) from None
    if not isinstance(found, dict) or not all(
        isinstance(one, dict) and isinstance(one.get("url"), str) for one in found.values()
    ):
        raise InvalidRequest(
            f'{path} has not the form {{"name": {{"url": …, "api_key": …}}}}; mend it, or '
            "remove it.",
            field="DATAGEN_PROFILE",
        )
    return found


def write_profiles(home: Path, profiles: Mapping[str, Mapping[str, str]]) -> None:
    """Keep servers by name, in a file that others cannot read: it may hold keys."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    incoming = home / f".{PROFILES}.new"
    incoming.unlink(missing_ok=True)
    with os.fdopen(os.open(incoming, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(profiles, file, indent=1, sort_keys=True)
    incoming.replace(home / PROFILES)


def _with_profile(settings: Settings) -> Settings:
    if settings.profile is None or settings.url is not None:
        return settings
    profiles = read_profiles(settings.home)
    found = profiles.get(settings.profile)
    if found is None:
        known = ", ".join(sorted(profiles)) or "none yet"
        raise InvalidRequest(
            f"There is no profile {settings.profile!r} (there are: {known}); make it with "
            f"`datagen config set {settings.profile} --url …`.",
            field="DATAGEN_PROFILE",
        )
    named: dict[str, Any] = {"url": found["url"]}
    if settings.api_key is None and found.get("api_key"):
        named["api_key"] = SecretStr(found["api_key"])
    return settings.model_copy(update=named)
