from __future__ import annotations

import pytest

from datagen.db.session import reading, writing
from datagen.db.tables import Model, new_id
from datagen.errors import InvalidRequest, NotFound
from datagen.service.comparing import compare


@pytest.fixture
def models(engine, model):
    """The model of three classes, and another version of it."""

    def change(**changes):
        with writing(engine) as session:
            first = session.get_one(Model, model.id)
            first.config = {"family": "cvae", "likelihood": "bernoulli", "latent_dim": 16}
            first.metrics = {"negative_elbo": 95.0, "judge_agreement": 0.97, "kl": 20.0}
            first.metrics |= {"tstr": 0.9, "coverage": 0.5, "reconstruction_error": 0.03}
            first.dataset_digest, first.seconds = "d" * 64, 30.0
            plain = {column.key: getattr(first, column.key) for column in Model.__table__.columns}
            second = Model(**plain | {"id": new_id(), "version": 2})
            second.config = first.config | changes.pop("config", {})
            second.metrics = {"negative_elbo": 92.0, "judge_agreement": 0.97, "kl": 21.0}
            second.metrics |= {"tstr": 0.8, "coverage": 0.6, "reconstruction_error": 0.02}
            for name, value in changes.items():
                setattr(second, name, value)
            session.add(second)

    return change


def rows_of(engine, owner, *references):
    with reading(engine) as session:
        found = compare(session, owner.id, references)
    return found, {row.name: row for row in found.rows}


def test_figures_stand_side_by_side_with_the_best_marked(engine, owner, models):
    models(config={"latent_dim": 32}, seconds=40.0)
    found, rows = rows_of(engine, owner, "pets@1", "pets@2")

    assert [one.version for one in found.models] == [1, 2]
    assert found.warnings == []
    assert (rows["latent_dim"].values, rows["latent_dim"].differs) == ([16, 32], True)
    assert (rows["negative_elbo"].values, rows["negative_elbo"].best) == ([95.0, 92.0], [1])
    assert (rows["seconds"].best, rows["kl"].best) == ([0], [])
    names = ("tstr", "coverage", "reconstruction_error")
    assert [rows[name].best for name in names] == [[0], [1], [1]]
    # Equal values have no best, and what is not known is null.
    assert (rows["judge_agreement"].differs, rows["judge_agreement"].best) == (False, [])
    assert rows["parameters"].values == [None, None]


def test_bounds_of_other_likelihoods_are_not_compared(engine, owner, models):
    models(config={"likelihood": "gaussian"})
    found, rows = rows_of(engine, owner, "pets@1", "pets@2")

    assert "different likelihoods" in found.warnings[0]
    assert rows["negative_elbo"].best == []


def test_models_of_other_datasets_are_not_compared(engine, owner, models):
    models(dataset_digest="e" * 64, seconds=20.0)
    found, rows = rows_of(engine, owner, "pets@1", "pets@2")

    assert "different images" in found.warnings[0]
    assert rows["negative_elbo"].best == []
    assert rows["seconds"].best == [1]


@pytest.mark.parametrize("count", [0, 1, 17])
def test_too_few_or_many_are_refused(engine, owner, model, count):
    with reading(engine) as session, pytest.raises(InvalidRequest, match=f"{count} models"):
        compare(session, owner.id, ["pets"] * count)


def test_unknown_model_is_not_found(engine, owner, model):
    with reading(engine) as session, pytest.raises(NotFound, match="'dogs'"):
        compare(session, owner.id, ["pets", "dogs"])
