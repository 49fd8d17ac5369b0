from __future__ import annotations

import pytest

from datagen.db.session import reading, writing
from datagen.db.tables import Job, Model
from datagen.errors import Forbidden, InvalidRequest
from datagen.schemas import Gate, JobCreate
from datagen.service import jobs

GATE = {"min_score": 0.6, "on_shortfall": "keep"}


@pytest.fixture
def recommending(engine, model):
    """Give the model of three classes a recommendation, and what its samplers take."""

    def change(
        samplers=("neighbour", "density", "prior"), gate=GATE, gates=None, strength=None, **changes
    ):
        with writing(engine) as session:
            row = session.get_one(Model, model.id)
            row.metrics = {
                "recommended": {
                    "samplers": list(samplers),
                    "gate": gate,
                    "gates": gates or {},
                    "strength": strength,
                },
                "density_components": 2,
            }
            row.examples_key, row.index_key = "models/examples", "models/index"
            for name, value in changes.items():
                setattr(row, name, value)

    return change


def made(engine, settings, owner, **wanted):
    with writing(engine) as session:
        job, _ = jobs.create(
            session, settings, owner.id, JobCreate.model_validate({"model": "pets", **wanted})
        )
    return job


def test_job_that_asks_for_nothing_is_made_as_the_model_recommends(
    engine, settings, owner, recommending
):
    recommending()
    job = made(engine, settings, owner, all=1)

    assert job.sampler == "neighbour"
    assert job.gate == Gate.model_validate(GATE)
    with reading(engine) as session:
        assert session.get_one(Job, job.id).sampler == "neighbour"


def test_what_a_job_asks_for_counts_before_the_recommendation(
    engine, settings, owner, recommending
):
    recommending()
    job = made(engine, settings, owner, all=1, sampler="prior", gate=None)

    assert (job.sampler, job.gate) == ("prior", None)
    assert made(engine, settings, owner, all=1, gate={}).gate == Gate()


def test_model_that_recommends_nothing_draws_from_its_prior_without_a_gate(
    engine, settings, owner, model
):
    job = made(engine, settings, owner, all=1)

    assert (job.sampler, job.gate) == ("prior", None)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"examples_key": None}, "density"),
        ({"samplers": ["neighbour"], "examples_key": None}, "prior"),
        ({"samplers": ["best", "density"]}, "prior"),
        ({"samplers": []}, "prior"),
    ],
)
def test_recommended_sampler_is_one_that_the_model_has_something_for(
    engine, settings, owner, recommending, changes, expected
):
    recommending(**changes)

    assert made(engine, settings, owner, all=1).sampler == expected


def test_others_images_are_not_started_from_unasked(
    engine, settings, owner, stranger, recommending
):
    recommending(owner_id=stranger.id, visibility="public")

    assert made(engine, settings, owner, all=1).sampler == "density"
    with pytest.raises(Forbidden):
        made(engine, settings, owner, all=1, sampler="neighbour")


def test_job_without_labels_is_not_given_a_sampler_that_starts_from_them(
    engine, settings, owner, recommending
):
    recommending(config={"family": "vae"})

    assert made(engine, settings, owner, count=3).sampler == "density"
    with pytest.raises(InvalidRequest):
        made(engine, settings, owner, count=3, sampler="neighbour")


def test_recommended_gate_refuses_no_copies_where_the_model_cannot_tell_them(
    engine, settings, owner, recommending
):
    recommending(index_key=None)
    gate = made(engine, settings, owner, all=1).gate

    assert gate is not None
    assert (gate.min_score, gate.reject_copies) == (0.6, False)


def test_each_sampler_has_the_gate_that_was_found_for_it(
    engine, settings, owner, stranger, recommending
):
    gates = {"density": {"min_score": 0.0, "on_shortfall": "keep"}}
    recommending(gates=gates)

    def least(**wanted):
        return made(engine, settings, owner, all=1, **wanted).gate.min_score

    assert least() == 0.6
    assert least(sampler="prior") == 0.6
    assert least(sampler="density") == 0.0
    # The best sampler is not for other owners, and neither is its gate.
    recommending(gates=gates, owner_id=stranger.id, visibility="public")
    assert least() == 0.0


def test_temperature_0_is_gated_unasked_only_where_images_still_differ(
    engine, settings, owner, stranger, recommending
):
    recommending()

    for sampler in ("prior", "density"):
        assert made(engine, settings, owner, all=1, temperature=0.0, sampler=sampler).gate is None
    for sampler in ("neighbour", "interpolate", "recommended"):
        gate = made(engine, settings, owner, all=1, temperature=0.0, sampler=sampler).gate
        assert gate is not None
        assert gate.reject_copies


def test_strength_that_a_job_leaves_open_is_what_the_model_recommends(
    engine, settings, owner, recommending
):
    recommending(strength=0.4)

    assert made(engine, settings, owner, all=1).strength == 0.4
    assert made(engine, settings, owner, all=1, sampler="neighbour").strength == 0.4
    assert made(engine, settings, owner, all=1, sampler="neighbour", strength=0.9).strength == 0.9
    assert made(engine, settings, owner, all=1, sampler="prior").strength is None


def test_model_that_recommends_no_strength_leaves_it_to_the_sampler(
    engine, settings, owner, recommending
):
    recommending()
    assert made(engine, settings, owner, all=1, sampler="neighbour").strength is None


@pytest.mark.parametrize(
    ("samplers", "expected"),
    [(["density", "prior", "interpolate"], "interpolate"), (["density", "prior"], "neighbour")],
)
def test_labels_of_a_model_that_knows_none_start_from_real_images_whatever_comes_first(
    engine, settings, owner, recommending, samplers, expected
):
    recommending(samplers=samplers, config={"family": "vae"})

    assert made(engine, settings, owner, all=1).sampler == expected
    assert made(engine, settings, owner, count=2).sampler == "density"
