r"""Taylor steps of a reference: the series of z, with derivatives in :math:`(\theta, z_0)`."""

from __future__ import annotations

import time
from decimal import Decimal

import numpy as np

from symode.gradients.task import Task
from symode.gradients.verify.reference_run import Floats, Numbers, Reference, Run, TooLongError
from symode.gradients.verify.series import Inputs, NoSeriesError, rows_of


class TaylorRun(Run):
    """Taylor steps over the span."""

    kind = "Taylor series"

    def __init__(self, task: Task, theta: Floats, z0: Floats | None, digits: int) -> None:
        super().__init__(task, theta, z0, digits)
        self.order = int(1.16 * digits) + 4

    def run(self, limit: float) -> Reference:
        """Return the result.

        Raises
        ------
        TooLongError
            When it would not end before the limit.
        """
        task = self.task
        t0, t1 = Decimal(task.t0), Decimal(task.t1)
        t, z, steps = t0, self.z, 0
        begun = time.thread_time()
        found: dict[int, Numbers] = {
            int(k): z.copy() for k in np.flatnonzero(task.times == task.t0)
        }
        first: Numbers | None = None
        peak = np.abs(z)
        while t != t1:
            inputs = Inputs(rows_of([t], 1 + self.q)[0], z, self.p, z[:0])
            series = self.field.expand(inputs, self.order, self.mp)
            first = series[1, :, 0].copy() if first is None else first
            h = self._step(series, peak, abs(t1 - t))
            end = t1 if h >= abs(t1 - t) else t + (h if t1 > t else -h)
            for k, time_k in enumerate(task.times):
                at = Decimal(float(time_k))
                inside = min(t, end) < at <= max(t, end) if t1 > t else end <= at < t
                if inside and k not in found:
                    found[k] = _horner(series, at - t)
            z = _horner(series, end - t)
            t, steps = end, steps + 1
            peak = np.maximum(peak, np.abs(z))
            now = time.thread_time()
            done = float(abs(t - t0) / abs(t1 - t0))
            if now > limit or (steps >= 3 and begun + (now - begun) / done > limit + (limit - now)):
                raise TooLongError("too long", (now - begun) / done)
            if not all(v.is_finite() for v in z.ravel()):
                raise NoSeriesError("the series leaves the finite numbers")
        assert first is not None
        return self.close(t1, z, found, first, steps)

    def _step(self, series: Numbers, peak: Numbers, left: Decimal) -> Decimal:
        """Return the step of Jorba & Zou (2005), *Exp. Math.* 14, 99-117, a bit shorter."""
        size = np.maximum(peak, np.abs(series[0]))
        # Tangents of one direction count together: single ones may be 0 for a while.
        joint = size.copy()
        joint[:, 1:] = size[:, 1:].max(axis=0)[None, :]
        size = np.where(size == 0, joint, size)
        shortest = left
        for k in (self.order - 1, self.order):
            ratio = Decimal(0)
            for c, s in zip(np.abs(series[k]).ravel(), size.ravel(), strict=True):
                if s > 0 and c / s > ratio:
                    ratio = c / s
            if not ratio.is_finite():
                raise NoSeriesError("the series leaves the finite numbers")
            if ratio > 0:
                tolerance = Decimal(10) ** (-self.digits) / ratio
                shortest = min(shortest, (tolerance.ln() / k).exp())
        return shortest


def _horner(series: Numbers, s: Decimal) -> Numbers:
    total = series[-1]
    for row in series[-2::-1]:
        total = total * s + row
    return np.asarray(total)
