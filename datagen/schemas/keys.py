"""API keys, and the quotas of their owners."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from datagen.schemas.base import MAX_IMAGES, Name, Request, Resource, ShownOnce

Scope = Literal["read", "write", "admin"]
LONGEST_KEY = 10 * 366 * 86_400
LONGEST_GRACE = 30 * 86_400

Scopes = Annotated[
    list[Scope],
    Field(
        min_length=1,
        max_length=3,
        description="How far a key reaches: `write` also reads, `admin` does all.",
    ),
]
ImageQuota = Annotated[
    int,
    Field(
        ge=0,
        le=MAX_IMAGES,
        strict=True,
        description="Images that the owner may have, over all keys.",
    ),
]


Quota = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
ByteQuota = Annotated[int, Field(ge=0, le=2**62, strict=True)]
QUOTAS = ("quota_images", "quota_bytes", "quota_jobs", "quota_uploads")


class KeyCreate(Request):
    """A request for a key; its owner is made where there is none of that name."""

    owner: Name
    scopes: Scopes = Field(default=["read", "write"])
    expires_in: int | None = Field(
        default=None,
        ge=1,
        le=LONGEST_KEY,
        strict=True,
        description="Seconds that it is good for; for ever, if absent.",
    )
    quota_images: ImageQuota | None = Field(
        default=None,
        description="A new quota for the owner, over all keys; left as it is, if absent.",
    )
    quota_bytes: ByteQuota | None = Field(
        default=None, description="Likewise, of bytes that are kept."
    )
    quota_jobs: Quota | None = Field(default=None, description="Likewise, of jobs at once.")
    quota_uploads: Quota | None = Field(
        default=None, description="Likewise, of versions of datasets."
    )


class KeyRotate(Request):
    """A request to put a new key in the place of one."""

    grace: int = Field(
        default=0,
        ge=0,
        le=LONGEST_GRACE,
        strict=True,
        description="Seconds for which the former key still opens.",
    )


class Key(Resource):
    """An API key, without its secret."""

    id: str = Field(description="The part between `dg_` and the secret.")
    owner: str
    scopes: list[Scope]
    state: Literal["valid", "expired", "revoked"]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


class KeyMade(Key):
    """A new key, and the only copy of its text."""

    key: ShownOnce = Field(
        description="`dg_<id>_<secret>`; kept as a hash alone, so never shown again."
    )


class QuotaUsed(Resource):
    """How much of a quota is used."""

    quota: int | None = Field(description="Null where there is none.")
    used: int


class SignInLink(Resource):
    """A link that signs in to the web page once."""

    url: ShownOnce
    expires_at: datetime


class Me(Resource):
    """Who a key belongs to, and how far it reaches."""

    owner: str
    key: Key
    images: QuotaUsed = Field(
        description="Images asked for by jobs that go on, and stored by those that have ended."
    )
    bytes: QuotaUsed = Field(description="Of shards, exports and the pixels of datasets.")
    jobs: QuotaUsed = Field(description="Jobs that have not ended.")
    uploads: QuotaUsed = Field(description="Versions of datasets that are kept.")
