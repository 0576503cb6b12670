"""What the server counts, for Prometheus: each app has its own registry, so that two in a process do not add up."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Gauges:
    """Counts requests, payload bytes and waiting polls. `registry` is open for what others count.

    The method and the route of a request are those that the app knows, so that nobody can make labels without end.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fedstill_requests", "Answered requests", ("method", "route", "status"), registry=self.registry
        )
        self._seconds = Histogram(
            "fedstill_request_seconds",
            "Time from a request's headers to the end of its answer",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.payload_bytes = Counter(
            "fedstill_payload_bytes", "Bytes of uploaded and fetched payloads", ("way",), registry=self.registry
        )
        self.polls = Gauge("fedstill_waiting_polls", "Requests for letters that wait", registry=self.registry)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def page(self) -> bytes:
        """All of it in the text format of Prometheus."""
        return generate_latest(self.registry)
