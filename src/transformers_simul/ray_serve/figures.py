# SPDX-License-Identifier: Apache-2.0
"""A replica's metrics, handed to Ray, whose nodes tell Prometheus."""

from typing import Any


class Figures:
    """Hands on what a registry holds: each sample is a gauge of Ray's with the same name, to which Ray adds `ray_` and
    the replica.

    Ray has histograms and counters of its own, but takes additions alone; ours are there as sums, and Prometheus does
    the same with either.

    Args:
        registry (`prometheus_client.CollectorRegistry`): of a server's metrics.
        make (`type`): `ray.serve.metrics.Gauge`.
    """

    def __init__(self, registry: Any, make: Any):
        self._registry, self._make = registry, make
        self._gauges: dict[str, Any] = {}

    def hand_over(self) -> None:
        """Hand over all figures as they are now."""
        for family in self._registry.collect():
            # Of processes Ray tells itself.
            for sample in family.samples if family.name.startswith("simul_") else ():
                if sample.name.endswith("_created"):
                    continue
                if sample.name not in self._gauges:
                    keys = tuple(sorted(sample.labels))
                    self._gauges[sample.name] = self._make(sample.name, description=family.documentation, tag_keys=keys)
                self._gauges[sample.name].set(sample.value, tags=dict(sample.labels))


__all__ = ["Figures"]
