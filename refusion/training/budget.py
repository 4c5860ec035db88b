"""How far a run is: steps and wall time, and the time that the end of the run needs."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from refusion.training.workers import GRACE_S

RECENT = 10  # steps whose longest duration is reserved
VALIDATION_SHARE = 1 / 20  # of the time of the run, for one validation
LARGEST_VALIDATION = 1 / 5  # of the time of the run; one that takes more is not repeated
ENCODING_SHARE = 1 / 4  # of the remaining time, for the encoding of latents
VALIDATE_EVERY, SAVE_EVERY = 1 / 5, 1 / 10  # of the time of the run, unless given in steps
MARGIN, MARGIN_S = 0.01, 0.5  # share of the time, and seconds, for what is not measured
COSTS = ("validation", "saving", "step")  # whose largest durations are measured


class Budget:
    """Steps and wall time of a run over all processes that have worked on it.

    The steps end early enough for one more step, for the last validation, for saving twice (the
    checkpoint and an export), and for the end of the processes that load the data. Each is expected
    to take as long as the longest one that was measured.

    Args:
        steps: number of steps of the run; None for no limit.
        minutes: wall time of the run in minutes; None for no limit.
        workers: number of processes that load the data.
        begun: value of `clock` when this process began; None for now.
        clock: function that returns seconds.

    Attributes:
        used_s: seconds used, the same value in all processes; see `agree`.
        reserve_s: seconds reserved for the end, the same value in all processes.
        costs: longest measured duration in seconds by name, see `COSTS`.
        photos: number of photos of a validation by the name of its set, where it is limited.
    """

    def __init__(
        self,
        steps: int | None,
        minutes: float | None,
        *,
        workers: int = 0,
        begun: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.steps, self.workers, self.clock = steps, workers, clock
        self.seconds = None if minutes is None else 60 * minutes
        self.begun = clock() if begun is None else begun
        self.before_s = 0.0  # used by earlier processes
        self.used_s = self.reserve_s = 0.0
        self.costs = dict.fromkeys(COSTS, 0.0)
        self.photos: dict[str, int] = {}
        self._marked_s = 0.0
        self._steps = 0
        self._recent: deque[float] = deque(maxlen=RECENT)

    def now(self) -> float:
        """Seconds used up to now, as this process measures them."""
        return self.before_s + self.clock() - self.begun

    def needed(self) -> float:
        """Seconds to reserve for the end of the run, as this process measures them."""
        if self.seconds is None:
            return 0.0
        validation = self.costs["validation"] if self.validates() else 0.0
        step = self.costs["step"]
        closing = min(GRACE_S, self.workers * step)  # a process completes its batch first
        return validation + 2 * self.costs["saving"] + step + closing + self._margin()

    def _margin(self) -> float:
        return MARGIN * self.seconds + MARGIN_S

    def agree(self, used_s: float, reserve_s: float) -> None:
        """Set the values that all processes use: the largest of their `now` and `needed`."""
        self.used_s, self.reserve_s = used_s, reserve_s

    def note(self, name: str, seconds: float) -> None:
        """Note the duration of a part, see `COSTS`.

        Of the steps only the last `RECENT` count, and the first one of this process, which may
        compile the network, only until the second.
        """
        if name == "step":
            self._steps += 1
            if self._steps == 2:
                self._recent.clear()
            self._recent.append(seconds)
            self.costs["step"] = max(self._recent)
        else:
            self.costs[name] = max(self.costs[name], seconds)

    def is_over(self, step: int) -> bool:
        """Whether the run ends after `step` steps."""
        if self.steps is not None and step >= self.steps:
            return True
        return self.seconds is not None and self.used_s + self.reserve_s >= self.seconds

    def share(self) -> float:
        """Share of the time for steps that is used, 0..1; 0 without a limit of the time."""
        if self.seconds is None:
            return 0.0
        return min(1.0, self.used_s / max(1e-9, self.seconds - self.reserve_s))

    def left_s(self, step: int, rate: float) -> float:
        """Expected seconds to the end of the run.

        Args:
            step: number of steps done.
            rate: seconds per step.
        """
        left = [] if self.seconds is None else [max(0.0, self.seconds - self.used_s)]
        left += [] if self.steps is None else [(self.steps - step) * rate]
        return min(left)

    def is_due(self, step: int, every: int | None, share: float) -> bool:
        """Whether something that is done again and again is due, see `mark`.

        Args:
            step: number of steps done.
            every: steps between two occurrences; None for `share`.
            share: share of the time of the run between two occurrences.
        """
        if every is not None:
            return step % every == 0
        if self.seconds is None:
            return False
        return self.used_s // (share * self.seconds) > self._marked_s // (share * self.seconds)

    def mark(self) -> None:
        """All that is due now is done."""
        self._marked_s = self.used_s

    def validates(self) -> bool:
        """Whether the run validates: no limit of the time, or a validation takes little of it."""
        return self.seconds is None or (
            self.costs["validation"] <= LARGEST_VALIDATION * self.seconds
        )

    def validation_limit(self) -> float | None:
        """Seconds that one validation may take; None for no limit."""
        return None if self.seconds is None else VALIDATION_SHARE * self.seconds

    def encoding_limit(self) -> float | None:
        """Seconds that the encoding of latents may take now; None for no limit."""
        if self.seconds is None:
            return None
        return ENCODING_SHARE * max(0.0, self.seconds - self.now())

    def state(self) -> dict[str, Any]:
        """Plain values to store."""
        return {
            "seconds": self.seconds,
            "used_s": self.now(),
            "costs": dict(self.costs),
            "photos": dict(self.photos),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continue from stored values, see `state`; another time can allow other photos."""
        self.before_s = self.used_s = self._marked_s = float(state["used_s"])
        self.costs |= {name: float(state["costs"][name]) for name in COSTS}
        self.photos = dict(state["photos"]) if state["seconds"] == self.seconds else {}


def duration(seconds: float) -> str:
    """Rounded duration for people.

    >>> duration(7.2), duration(540), duration(8000)
    ('7 s', '9 min', '2 h 13 min')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
