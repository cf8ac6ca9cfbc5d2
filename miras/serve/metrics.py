"""What the server counts, as Prometheus reads it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
BATCHES = (1, 2, 4, 8, 16, 32, 64)


class Metrics:
    """Counters of one server; safe in threads."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "miras_requests", "Requests by endpoint and status.", ["endpoint", "status"], registry=registry
        )
        self.first_token = Histogram(
            "miras_first_token_seconds", "From request to first token.", buckets=SECONDS, registry=registry
        )
        self.answer = Histogram(
            "miras_answer_seconds", "From request to text and masks.", buckets=SECONDS, registry=registry
        )
        self.batch = Histogram("miras_batch_size", "Dialogues answered together.", buckets=BATCHES, registry=registry)
        self.queue = Gauge("miras_queue_length", "Questions that wait.", registry=registry)
        self.gone = Counter("miras_gone_clients", "Clients that left before their answer.", registry=registry)
        self.found = Counter(
            "miras_kept_found", "Questions by what was kept of their dialogue.", ["what"], registry=registry
        )
        self.dialogues = Gauge("miras_kept_dialogues", "Dialogues whose caches are kept.", registry=registry)
        self.kept = Gauge("miras_kept_bytes", "Memory of these caches.", registry=registry)
        self.dropped = Gauge("miras_dropped_dialogues", "Caches dropped to stay within the bound.", registry=registry)

    def text(self) -> bytes:
        """In Prometheus' text form."""
        return generate_latest(self.registry)
