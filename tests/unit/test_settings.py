from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import make_url

from datagen.errors import InvalidRequest
from datagen.settings import Settings, load_settings
from datagen.storage import FileStorage, open_storage


def test_everything_has_a_default_below_the_users_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))

    settings = load_settings()

    assert settings.home == tmp_path / ".datagen"
    assert make_url(settings.database).database == str(tmp_path / ".datagen" / "datagen.db")
    assert settings.storage == (tmp_path / ".datagen" / "storage").as_uri()
    assert settings.max_attempts == 8
    assert settings.url is None
    assert settings.broker_url is None


@pytest.mark.parametrize("name", ["with a space", "what?", "50%20", "hash#tag", "ünïcode", "a&b=c"])
def test_home_of_any_name_leads_to_its_own_database_and_storage(tmp_path, name):
    home = tmp_path / name

    settings = load_settings(home=home)
    storage = open_storage(settings.storage)

    assert make_url(settings.database).database == str(home / "datagen.db")
    assert make_url(settings.database).query == {}
    assert isinstance(storage, FileStorage)
    assert storage.root == home / "storage"


def test_environment_is_read_and_explicit_values_win(monkeypatch):
    monkeypatch.setenv("DATAGEN_WORKERS", "3")
    monkeypatch.setenv("DATAGEN_BATCH_SIZE", "64")
    monkeypatch.setenv("DATAGEN_SOMETHING_ELSE", "ignored")

    settings = load_settings(batch_size=128)

    assert settings.workers == 3
    assert settings.batch_size == 128


@pytest.mark.parametrize("name", ["HOME", "URL", "API_KEY", "DATABASE_URL", "WORKERS", "DEVICE"])
def test_blank_variable_counts_as_absent(monkeypatch, name):
    monkeypatch.setenv(f"DATAGEN_{name}", "")

    assert load_settings() == Settings()
    assert load_settings().home != Path.cwd()


def test_blank_explicit_url_counts_as_absent():
    assert load_settings(url="", database_url="").url is None


def test_relative_home_is_made_absolute_and_links_are_kept(monkeypatch, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)

    assert load_settings(home="link/../link/state").home == tmp_path / "link" / "state"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATAGEN_WORKERS", "0"),
        ("DATAGEN_WORKERS", "many"),
        ("DATAGEN_BATCH_SIZE", "70000"),
        ("DATAGEN_DEVICE", "tpu"),
        ("DATAGEN_MAX_ATTEMPTS", "0"),
        ("DATAGEN_LEASE_SECONDS", "nan"),
        ("DATAGEN_TICK_SECONDS", "-1"),
        ("DATAGEN_HOME", "~no-such-user/state"),
    ],
)
def test_value_that_cannot_be_used_is_named_with_its_variable(monkeypatch, name, value):
    monkeypatch.setenv(name, value)

    with pytest.raises(InvalidRequest) as caught:
        load_settings()

    assert caught.value.field == name
    assert caught.value.detail.startswith(f"{name} is {value!r}, which cannot be used: ")
    assert "\n" not in caught.value.detail
    assert "Value error" not in caught.value.detail


def test_key_is_not_shown():
    settings = load_settings(api_key="dg_local_canary")

    assert "canary" not in repr(settings)
    assert "canary" not in settings.model_dump_json()


def test_settings_do_not_change_after_they_were_read(monkeypatch):
    settings = load_settings(workers=2)
    monkeypatch.setitem(os.environ, "DATAGEN_WORKERS", "5")

    assert settings.workers == 2
    with pytest.raises(ValueError, match="frozen"):
        settings.workers = 5
