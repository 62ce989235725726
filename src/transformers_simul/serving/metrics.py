# SPDX-License-Identifier: Apache-2.0
"""What a server tells Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

# Seconds: of a forward, and from a needed source word to its translation.
_STEPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_WORDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 4, 8, 16, 32)


class Metrics:
    """Counters and histograms in a registry of their own, so that several servers can live in one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)

        def make(kind: type, name: str, about: str, *labels: str, **options: object):
            return kind(f"simul_{name}", about, labels, registry=self.registry, **options)

        self.streams: Gauge = make(Gauge, "streams", "Streams that have a place", "model")
        self.places: Gauge = make(Gauge, "places", "Most streams at a time", "model")
        self.waiting_words: Gauge = make(Gauge, "waiting_source_words", "Source words that wait unread")
        self.unsent: Gauge = make(Gauge, "unsent_messages", "Messages that wait for their clients")
        self.rooms: Gauge = make(Gauge, "rooms", "Rooms")
        self.listeners: Gauge = make(Gauge, "listeners", "Listeners of all rooms")
        self.tasks: Gauge = make(Gauge, "tasks", "Tasks of the server's event loop")
        self.is_draining: Gauge = make(Gauge, "draining", "1 while no new streams are taken")
        self.opened: Counter = make(Counter, "opened_streams", "Streams that were opened", "model")
        self.ended: Counter = make(Counter, "ended_streams", "Streams that ended, by reason", "model", "reason")
        self.words: Counter = make(Counter, "words", "Target words written", "model")
        self.source_words: Counter = make(Counter, "source_words", "Source words read", "model")
        self.refusals: Counter = make(Counter, "refusals", "Requests and streams refused or ended, by code", "code")
        self.step_s: Histogram = make(Histogram, "step_seconds", "Of one forward", "model", buckets=_STEPS)
        self.word_s: Histogram = make(
            Histogram, "word_seconds", "From the newest source word that was read to the word", "model", buckets=_WORDS
        )

    def gauge(self, gauge: Gauge, read: Callable[[], float], **labels: str) -> None:
        """Let a gauge ask for its value whenever it is scraped.

        Args:
            gauge (`Gauge`): one of the attributes.
            read (`Callable[[], float]`): its value now.
            **labels: of the gauge.
        """
        (gauge.labels(**labels) if labels else gauge).set_function(read)

    def text(self) -> bytes:
        """Return all metrics in the format of Prometheus."""
        return generate_latest(self.registry)


__all__ = ["Metrics"]
