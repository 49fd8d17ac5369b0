"""Links: a download without a key, signed by the service and good for a while.

The signature is an HMAC over what the link gives and when it ends, by a secret that lies in the
database, so that every process can make and check them.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen.db.session import now
from datagen.db.tables import Secret
from datagen.errors import Forbidden
from datagen.service.common import insert_if_absent

LINKS = "links"
SECRET_BYTES = 32


def expiry(session: Session, seconds: int) -> datetime:
    """When a link ends that is made now, to the second."""
    return (now(session) + timedelta(seconds=seconds)).replace(microsecond=0)


def signature(session: Session, export_id: UUID, what: str, expires: int) -> str:
    """The signature of a link.

    Args:
        session: writes the secret where there is none yet.
        export_id: the export that it gives.
        what: the archive's kind, or `file` and a path.
        expires: the second at which it ends, since 1970.
    """
    insert_if_absent(session, Secret, name=LINKS, value=secrets.token_bytes(SECRET_BYTES))
    return _signed(_secret(session) or b"", export_id, what, expires)


def check(session: Session, export_id: UUID, what: str, expires: int, given: str) -> None:
    """Refuse a link that is over, or that nobody here has signed.

    Raises:
        Forbidden: it may not be used.
    """
    secret = _secret(session)
    wanted = _signed(secret, export_id, what, expires) if secret else ""
    if not hmac.compare_digest(wanted.encode(), given.encode(errors="replace")) or not secret:
        raise Forbidden("The link is not one that was made here, or was changed; ask for another.")
    if now(session).timestamp() >= expires:
        raise Forbidden("The link has expired; ask for another.")


def _secret(session: Session) -> bytes | None:
    return session.scalar(select(Secret.value).where(Secret.name == LINKS))


def _signed(secret: bytes, export_id: UUID, what: str, expires: int) -> str:
    message = f"{export_id}\n{what}\n{expires}".encode(errors="surrogatepass")
    return hmac.new(secret, message, hashlib.sha256).hexdigest()
