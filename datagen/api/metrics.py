"""Metrics for Prometheus: of the service from the database and the broker, of HTTP from here."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from datagen.api.backends import Backends
from datagen.db.session import reading
from datagen.queue import LIGHT_QUEUES, TORCH_QUEUES, queue_lengths
from datagen.service.measures import measures

PREFIX = "datagen_"
BROKER_SECONDS = 1.0
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Requests:
    """What one process counts of its requests."""

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("method", "route")
        self._answers = Counter(
            f"{PREFIX}http_requests",
            "Requests that were answered, by route and status.",
            (*labels, "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            f"{PREFIX}http_request_seconds",
            "Seconds from a request to the end of its answer, by route.",
            labels,
            buckets=BUCKETS,
            registry=registry,
        )

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one request; `route` is the path with its parameters as names."""
        # Whoever makes up methods must not make up metrics.
        method = method if method in METHODS else "other"
        self._answers.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)


class _Service(Collector):
    """Reads the database and the broker whenever somebody asks."""

    def __init__(self, backends: Backends) -> None:
        self._backends = backends

    def describe(self) -> list[GaugeMetricFamily]:
        """Nothing: else the registry would read the database to learn the names."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """All figures as they are now."""
        with reading(self._backends.engine) as session:
            for measure in measures(session):
                family = GaugeMetricFamily(
                    PREFIX + measure.name, measure.help, labels=measure.labels
                )
                for labels, value in measure.values:
                    family.add_metric(labels, value)
                yield family
        yield self._queues()

    def _queues(self) -> GaugeMetricFamily:
        family = GaugeMetricFamily(
            f"{PREFIX}queue_messages", "Messages that wait, by queue.", labels=("queue",)
        )
        url = self._backends.settings.broker_url
        if url is None:
            return family
        # No lengths where the broker is away, which `/readyz` says; the others are still useful.
        lengths = queue_lengths(url, (*TORCH_QUEUES, *LIGHT_QUEUES), BROKER_SECONDS)
        for queue, length in lengths.items():
            family.add_metric([queue], float(length))
        return family


class Metrics:
    """The registry of one application."""

    def __init__(self, backends: Backends) -> None:
        self._registry = CollectorRegistry()
        self.requests = Requests(self._registry)
        self._registry.register(_Service(backends))

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
