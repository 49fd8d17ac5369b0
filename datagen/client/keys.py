"""`Client.keys`: API keys, for administrators."""

from __future__ import annotations

from collections.abc import Sequence

from datagen.client.transport import Transport, quoted
from datagen.schemas import Key, KeyMade, Page, Scope


class Keys:
    """Create, list, revoke and rotate keys; all of it needs the scope `admin`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        owner: str,
        scopes: Sequence[Scope] = ("read", "write"),
        *,
        expires_in: int | None = None,
        quota_images: int | None = None,
        quota_bytes: int | None = None,
        quota_jobs: int | None = None,
        quota_uploads: int | None = None,
    ) -> KeyMade:
        """Make a key; the answer has the only copy of its text.

        Args:
            owner: whose it is; made where there is none of that name.
            scopes: `read`, `write` or `admin`.
            expires_in: seconds that it is good for; for ever if None.
            quota_images: a new quota of images for the owner; left as it is if None.
            quota_bytes: likewise, of bytes that are kept.
            quota_jobs: likewise, of jobs that are at work at once.
            quota_uploads: likewise, of versions of datasets.

        Raises:
            Forbidden: your own key is no administrator's.
            InvalidRequest: a value cannot be used; `field` names it.
        """
        body = {
            "owner": owner,
            "scopes": list(scopes),
            "expires_in": expires_in,
            "quota_images": quota_images,
            "quota_bytes": quota_bytes,
            "quota_jobs": quota_jobs,
            "quota_uploads": quota_uploads,
        }
        return self._transport.post("/v1/keys", KeyMade, body)

    def get(self, key_id: str) -> Key:
        """A key without its secret. Raises NotFound."""
        return self._transport.get(f"/v1/keys/{quoted(key_id)}", Key)

    def list(
        self, *, owner: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Key]:
        """One page of keys, newest first; of one owner, if it is given."""
        return self._transport.get("/v1/keys", Page[Key], owner=owner, limit=limit, cursor=cursor)

    def revoke(self, key_id: str) -> Key:
        """End a key now. Raises NotFound, or Conflict for the key that asks."""
        return self._transport.post(f"/v1/keys/{quoted(key_id)}/revoke", Key)

    def rotate(self, key_id: str, *, grace: int = 0) -> KeyMade:
        """A new key in the place of one, which opens for `grace` seconds more.

        Raises:
            NotFound: there is no such key.
            Conflict: it was revoked or has expired.
        """
        return self._transport.post(f"/v1/keys/{quoted(key_id)}/rotate", KeyMade, {"grace": grace})
