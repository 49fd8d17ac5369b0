from __future__ import annotations

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect

from datagen.db import migrate
from datagen.db.session import open_engine
from datagen.db.tables import Table


@pytest.fixture
def empty_engine(empty_database_url):
    engine = open_engine(empty_database_url)
    yield engine
    engine.dispose()


def differences(engine):
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        return compare_metadata(context, Table.metadata)


def test_migrations_build_exactly_the_tables(engine):
    assert differences(engine) == []


def test_migrations_build_the_checks_and_foreign_keys(engine, empty_engine):
    Table.metadata.create_all(empty_engine)

    for table in Table.metadata.tables:
        built, wanted = inspect(engine), inspect(empty_engine)
        assert {check["name"] for check in built.get_check_constraints(table)} == {
            check["name"] for check in wanted.get_check_constraints(table)
        }
        assert {key["name"] for key in built.get_foreign_keys(table)} == {
            key["name"] for key in wanted.get_foreign_keys(table)
        }


def test_every_step_down_and_up_again_builds_the_same(empty_engine, empty_database_url):
    migrate.upgrade(empty_database_url)
    with empty_engine.begin() as connection:
        config = migrate.config_on(connection)
        command.downgrade(config, "base")
    assert set(inspect(empty_engine).get_table_names()) <= {"alembic_version"}

    migrate.upgrade(empty_database_url)

    assert differences(empty_engine) == []
    migrate.check(empty_engine)
