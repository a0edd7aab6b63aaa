"""What Prometheus may count: no accounts, addresses, URLs or photos in any label."""

from __future__ import annotations

from dataclasses import dataclass, field

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

# A photo takes from some 50 ms (cached, small) to seconds (queue full, slow address).
DURATION_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6)


@dataclass(frozen=True, slots=True)
class Metrics:
    """One registry for each app, so that tests can make many in one process."""

    shared: bool
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    requests: Counter = field(init=False)
    duration_s: Histogram = field(init=False)
    blur_s: Histogram = field(init=False)
    predictions: Counter = field(init=False)
    waiting: Gauge = field(init=False)
    refused_busy: Counter = field(init=False)

    def __post_init__(self) -> None:
        """Register the series."""

        def put(name: str, series: object) -> None:
            object.__setattr__(self, name, series)

        registry = self.registry
        put(
            "requests",
            Counter(
                "plateblur_requests",
                "Requests by route, status and code of the contract",
                ("route", "status", "cd"),
                registry=registry,
            ),
        )
        put(
            "duration_s",
            Histogram(
                "plateblur_request_seconds",
                "From the first byte to the last",
                ("route",),
                buckets=DURATION_BUCKETS_S,
                registry=registry,
            ),
        )
        put(
            "blur_s",
            Histogram(
                "plateblur_blur_seconds",
                "Decode, detect, blur and encode",
                buckets=DURATION_BUCKETS_S,
                registry=registry,
            ),
        )
        put(
            "predictions",
            Counter("plateblur_predictions", "Predictions counted on plans", registry=registry),
        )
        put(
            "waiting",
            Gauge(
                "plateblur_photos_in_work",
                "Photos that wait for a thread or are being blurred",
                multiprocess_mode="livesum",
                registry=registry,
            ),
        )
        put(
            "refused_busy",
            Counter(
                "plateblur_refused_busy",
                "Requests refused because the service was full",
                registry=registry,
            ),
        )

    def exposition(self) -> bytes:
        """Return all series in Prometheus' format, of all workers if they share a folder."""
        if not self.shared:
            return generate_latest(self.registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
