"""Circles: pipelines that would read what they write, and so never come to rest.

A pipeline leads to another one where it delivers what the other reads, or where it reads new
versions of a dataset that the other watches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from datagen.db.tables import Pipeline
from datagen.errors import InvalidRequest
from datagen.schemas import PipelineApply


@dataclass(frozen=True)
class _Flow:
    """What a pipeline reads and writes.

    Attributes:
        dataset: whose images it takes.
        reads: the URL that it refreshes the dataset from.
        writes: URLs of the destinations that it delivers to.
        watches: whether new versions of the dataset make it due.
    """

    name: str
    dataset: str
    reads: str | None
    writes: tuple[str, ...]
    watches: bool

    def leads_to(self, other: _Flow) -> bool:
        """Whether a run of it gives the other one something new."""
        delivers = other.reads is not None and any(
            _overlap(other.reads, url) for url in self.writes
        )
        renews = self.reads is not None and other.watches and self.dataset == other.dataset
        return delivers or renews


def refuse_circle(
    session: Session, owner_id: UUID, wanted: PipelineApply, urls: Mapping[str, str]
) -> None:
    """Refuse a recipe that would close a circle, by itself or with others of the owner's.

    Args:
        session: that sees the others.
        owner_id: whose they are.
        wanted: the recipe.
        urls: of the destinations.

    Raises:
        InvalidRequest: it would.
    """
    own = _flow(wanted, urls)
    # Without the one there is nothing to come back to, without the other nothing to go on from.
    if not (own.reads or own.writes):
        return
    kept = select(Pipeline.recipe).where(
        Pipeline.owner_id == owner_id, Pipeline.name != wanted.name
    )
    others = [flow for row in session.execute(kept) for flow in _kept(row.recipe, urls)]
    way = _way_back(own, others)
    if way is not None:
        told = " -> ".join([own.name, *way, own.name])
        raise InvalidRequest(
            f"This closes a circle ({told}): a run would be given what it has made itself. Deliver "
            "elsewhere, refresh from another place, or give a 'cron' in place of 'on_dataset'.",
            field="source" if own.reads else "deliver",
        )


def _way_back(own: _Flow, others: Sequence[_Flow]) -> list[str] | None:
    """The pipelines between one and itself, none where it leads to itself; None without a way."""
    ways: list[tuple[_Flow, list[str]]] = [(own, [])]
    seen: set[str] = set()
    while ways:
        last, names = ways.pop()
        if last.leads_to(own):
            return names
        for other in others:
            if other.name not in seen and last.leads_to(other):
                seen.add(other.name)
                ways.append((other, [*names, other.name]))
    return None


def _overlap(one: str, other: str) -> bool:
    """Whether one URL lies in the other."""
    first, second = (f"{url.rstrip('/')}/" for url in (one, other))
    return first.startswith(second) or second.startswith(first)


def _flow(recipe: PipelineApply, urls: Mapping[str, str]) -> _Flow:
    refresh, schedule = recipe.source.refresh, recipe.schedule
    return _Flow(
        recipe.name,
        recipe.source.dataset,
        None if refresh is None else refresh.source,
        tuple(urls[name] for one in recipe.deliver if (name := one.destination or "") in urls),
        schedule is not None and schedule.on_dataset,
    )


def _kept(recipe: Mapping[str, object], urls: Mapping[str, str]) -> list[_Flow]:
    """What a kept recipe reads and writes; none where no run of it could read the recipe."""
    try:
        return [_flow(PipelineApply.model_validate(recipe), urls)]
    except ValidationError:
        return []
