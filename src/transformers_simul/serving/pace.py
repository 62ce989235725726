# SPDX-License-Identifier: Apache-2.0
"""How much a client may send: so many at once, so many a second in the long run."""

import time
from collections.abc import Callable


class Pace:
    """A bucket of allowances that fills at a rate.

    Args:
        per_second (`float`): how fast it fills.
        burst (`float`): what it holds.
        now_s (`Callable[[], float]`, *optional*): the clock.

    Example:

    ```python
    >>> from transformers_simul.serving.pace import Pace
    >>> clock = iter([0.0, 0.0, 0.0, 1.0])
    >>> pace = Pace(2, burst=3, now_s=lambda: next(clock))
    >>> pace.take(3), pace.take(1), pace.take(2)
    (True, False, True)

    ```
    """

    def __init__(self, per_second: float, burst: float, now_s: Callable[[], float] = time.monotonic):
        self._per_second, self._burst, self._now_s = per_second, burst, now_s
        self._left, self._at_s = float(burst), now_s()

    def take(self, count: int) -> bool:
        """Take some, or none if there are not so many.

        Args:
            count (`int`): how many.
        """
        now = self._now_s()
        self._left = min(self._burst, self._left + (now - self._at_s) * self._per_second)
        self._at_s = now
        if count > self._left:
            return False
        self._left -= count
        return True


__all__ = ["Pace"]
