"""Jobs that changed, for whoever follows them."""

from __future__ import annotations

from sqlalchemy import update

from datagen.db.session import reading, writing
from datagen.db.tables import Job
from datagen.service import following


def test_job_that_cannot_be_shown_is_lost_to_its_own_followers_alone(engine, start):
    jobs = [start(ant=1)[0] for _ in range(2)]
    with writing(engine) as session:
        session.execute(update(Job).values(revision=Job.revision + 1))
        session.execute(update(Job).where(Job.id == jobs[0].id).values(noted="no object"))
    with reading(engine) as session:
        found = {one: view for one, _, view in following.changed(session, {j.id: -1 for j in jobs})}
    assert found[jobs[0].id] is None
    assert found[jobs[1].id].id == jobs[1].id
