"""Scales of measurement: where a noise is symmetric around the model's value."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import sympy as sp
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Measure:
    """A scale u of measured values, on which residuals are formed.

    Examples
    --------
    >>> LOG10.scaled(np.array([100.0])).tolist(), LIN.location(sp.Symbol("h"))
    ([2.0], h)
    """

    name: str
    factor: float  # u = factor * log(y); 0 for u = y

    @property
    def is_positive(self) -> bool:
        """Whether measured values, and the model's, must be positive."""
        return self.factor != 0.0

    def scaled(self, values: Floats) -> Floats:
        """Return u(y)."""
        if self.name == "log10":
            return np.log10(values)
        return np.log(values) if self.is_positive else values

    def unscaled(self, u: Any) -> Any:
        """Return y."""
        if self.name == "log10":
            return np.power(10.0, u)
        return np.exp(u) if self.is_positive else u

    def location(self, h: sp.Expr) -> sp.Expr:
        """Return u(h)."""
        if self.name == "log10":
            return sp.log(h) / sp.log(10)
        return sp.log(h) if self.is_positive else h

    def log_slope(self, u: Any) -> Any:
        r"""Return :math:`-\log |du/dy|` at u: what makes a density on this scale one of y."""
        if not self.is_positive:
            return 0 * u
        return u / self.factor - float(np.log(self.factor))


LIN: Final = Measure("lin", 0.0)
LOG: Final = Measure("log", 1.0)
LOG10: Final = Measure("log10", 1.0 / float(np.log(10.0)))
#: Scales by name.
MEASURES: Final = {measure.name: measure for measure in (LIN, LOG, LOG10)}
