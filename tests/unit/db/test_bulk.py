from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from datagen.db.bulk import insert_samples
from datagen.db.session import reading, writing
from datagen.db.tables import Sample, new_id
from datagen.shards import SampleBatch

LARGEST = 2**63 - 1


def batch_of(indices):
    index = np.asarray(indices, dtype=np.int64)
    return SampleBatch(
        indices=index,
        labels=index % 7,
        scores=np.round((index % 10_000) / 10_000, 4),
        judged_labels=(index + 1) % 7,
        attempts=index % 3,
        sources=np.stack([index % 5 - 1, index], axis=1),
        digests=[hashlib.sha256(str(number).encode()).digest() for number in index],
        images=[],
    )


def rows(engine, job_id):
    with reading(engine) as session:
        query = select(Sample).where(Sample.job_id == job_id).order_by(Sample.index)
        return list(session.scalars(query))


def test_every_column_comes_back_as_it_went_in(engine):
    job_id, samples = new_id(), batch_of([0, 1, 9999, 2**40, LARGEST])
    with writing(engine) as session:
        insert_samples(session, job_id, samples)

    found = rows(engine, job_id)
    assert [row.index for row in found] == samples.indices.tolist()
    assert [row.label for row in found] == samples.labels.tolist()
    assert [row.score for row in found] == samples.scores.tolist()
    assert [row.judged_label for row in found] == samples.judged_labels.tolist()
    assert [row.attempt for row in found] == samples.attempts.tolist()
    assert [row.digest for row in found] == samples.digests


def test_rows_are_found_by_the_primary_key(engine):
    job_id = new_id()
    with writing(engine) as session:
        insert_samples(session, job_id, batch_of(range(300)))

    with reading(engine) as session:
        assert session.get_one(Sample, (job_id, 299)).index == 299


def test_rows_come_and_go_with_their_transaction(engine):
    job_id = new_id()
    with pytest.raises(RuntimeError), writing(engine) as session:  # noqa: PT012
        insert_samples(session, job_id, batch_of(range(10)))
        raise RuntimeError

    assert rows(engine, job_id) == []


def test_index_that_is_there_already_is_refused_whole(engine):
    job_id = new_id()
    with writing(engine) as session:
        insert_samples(session, job_id, batch_of([5]))

    with pytest.raises(IntegrityError), writing(engine) as session:
        insert_samples(session, job_id, batch_of(range(10)))
    assert [row.index for row in rows(engine, job_id)] == [5]


def test_no_samples_are_no_rows(engine):
    job_id = new_id()
    with writing(engine) as session:
        insert_samples(session, job_id, batch_of([]))

    assert rows(engine, job_id) == []


def test_columns_may_have_other_number_types(engine):
    job_id, samples = new_id(), batch_of(range(3))
    narrow = replace(
        samples, labels=samples.labels.astype(np.uint8), scores=samples.scores.astype(np.float32)
    )
    with writing(engine) as session:
        insert_samples(session, job_id, narrow)

    assert [row.label for row in rows(engine, job_id)] == [0, 1, 2]
