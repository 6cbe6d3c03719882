r"""Censored values: measurements of which only a bound is known.

A value below the limit of detection L says :math:`y \le L`; one beyond the range of the
instrument :math:`y \ge L`. Their likelihood is a probability, not a density. With Gaussian
noise on the scale u and :math:`w = \pm(u(L) - u(h))/\sigma`,

.. math:: -\log L = -\log\Phi(w)

Tobin (1958), *Econometrica* 26, 24.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import sympy as sp
from numpy.typing import NDArray

from symode.problems.noise import Noise, Slopes

Floats = NDArray[np.float64]

#: Codes of a value: known, an upper bound of the true value, a lower one.
KNOWN: Final = 0
BELOW: Final = -1
ABOVE: Final = 1

#: Below this argument the asymptotic series of log Phi is exact to 1e-13.
FAR: Final = -30


def censored_term(code: int, u: sp.Expr, location: sp.Expr, sigma: sp.Expr) -> sp.Expr:
    r"""Return :math:`-\log\Phi(w)` as an expression that neither overflows nor cancels."""
    w = (u - location) / sigma
    if code == ABOVE:
        w = -w
    # Unevaluated: SymPy would write 2 - erfc(v) for erfc(-v), and lose the digits of its tail.
    near = -sp.log(sp.erfc(-w / sp.sqrt(2), evaluate=False) / 2)
    # Abramowitz & Stegun (1964), 26.2.12.
    inverse = w**-2
    tail = 1 - inverse * (1 - inverse * (3 - inverse * (15 - 105 * inverse)))
    far = w**2 / 2 + sp.log(-w) + sp.log(2 * sp.pi) / 2 - sp.log(tail)
    return sp.Piecewise((near, w > FAR), (far, True))


def censored_slopes(code: int, u: Floats, location: Floats, sigma: Floats) -> Slopes:
    r"""Return terms, derivatives and information of censored values.

    With :math:`\lambda = \varphi(w)/\Phi(w)` the term's second derivative in the location is
    :math:`\lambda (\lambda + w)/\sigma^2`, always positive; it stands for its expectation.
    """
    from scipy.special import log_ndtr

    side = 1.0 if code == BELOW else -1.0
    w = side * (u - location) / sigma
    log_probability = log_ndtr(w)
    ratio = np.exp(-0.5 * w**2 - 0.5 * np.log(2 * np.pi) - log_probability)
    curvature = np.maximum(ratio * (ratio + w), 0.0)
    return Slopes(
        -side * ratio,
        np.asarray(-log_probability),
        side * ratio,
        w * ratio,
        curvature,
        w**2 * curvature,
    )


def can_be_censored(noise: Noise) -> bool:
    """Whether the probability of a bound is known for this kind of noise."""
    return noise.is_normal
