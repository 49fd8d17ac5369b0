"""What must hold before the first request: a schema that fits, the bundled model, the named key."""

from __future__ import annotations

from sqlalchemy import select

from datagen.api.backends import Backends
from datagen.db.migrate import check
from datagen.db.session import open_engine, reading, writing
from datagen.db.tables import ApiKey
from datagen.service import keys, models
from datagen.settings import Settings

KEY_OWNER = "local"


def has_keys(settings: Settings) -> bool:
    """Whether anybody has a key for this database yet.

    Raises:
        Unavailable: the database's schema is not this version's.
    """
    engine = open_engine(settings.database)
    try:
        check(engine)
        with reading(engine) as session:
            return session.scalar(select(ApiKey.id).limit(1)) is not None
    finally:
        engine.dispose()


def prepare(backends: Backends) -> None:
    """Check the schema, and put in what every service has.

    Raises:
        Unavailable: the database's schema is not this version's.
        StorageFailure: the bundled model cannot be stored.
        InvalidRequest: `DATAGEN_API_KEY` has not the form of a key.
    """
    check(backends.engine)
    given = backends.settings.api_key
    with writing(backends.engine) as session:
        models.ensure_bundled(session, backends.storage)
        if given is not None:
            keys.ensure_key(session, given.get_secret_value(), KEY_OWNER)
