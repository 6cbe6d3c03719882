"""Scores: every measurement by itself, with the derivatives that all of statistics is made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symode.problems.noise import Slopes
from symode.problems.parts import Rows
from symode.problems.priors import PriorTerms

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    r"""Every measurement's residual and likelihood at one point, with derivatives on the scale.

    Parameters
    ----------
    slopes
        Residuals :math:`r_k`, terms of the negative log-likelihood, their slopes in location (per
        unit) and log sigma, and the Fisher information about both. Each of shape ``(K,)``.
    log_sigma
        Shape ``(K,)``.
    dlocation
        :math:`du(h_k)/dx`, divided by the unit of each measurement (sigma; 1 for counts). Shape
        ``(K, p)``.
    dlog_sigma
        :math:`d\log\sigma_k/dx`. Shape ``(K, p)``.
    prior
        The priors' part.
    """

    slopes: Slopes
    log_sigma: Floats
    dlocation: Floats
    dlog_sigma: Floats
    prior: PriorTerms

    @property
    def residuals(self) -> Floats:
        r"""Return :math:`r_k = (u(y_k) - u(h_k)) / \sigma_k`. Shape ``(K,)``."""
        return self.slopes.residuals

    @property
    def value(self) -> float:
        """Return the negative log-likelihood, priors included."""
        return float(self.slopes.terms.sum()) + self.prior.value

    @property
    def misfit(self) -> float:
        """Return half the sum of squared residuals."""
        return 0.5 * float(self.residuals @ self.residuals)

    @property
    def jacobian(self) -> Floats:
        r"""Return :math:`dr/dx` of normal noise. Shape ``(K, p)``."""
        return -self.dlocation - self.residuals[:, None] * self.dlog_sigma

    @property
    def gradient(self) -> Floats:
        """Return the gradient of the negative log-likelihood. Shape ``(p,)``."""
        likelihood = self.slopes.location @ self.dlocation + self.slopes.log_sigma @ self.dlog_sigma
        return np.asarray(likelihood + self.prior.gradient)

    @property
    def information_root(self) -> Floats:
        r"""Return W with :math:`W^\top W` the Fisher information. Shape ``(k, p)``.

        .. math:: F = \sum_k I_k\, \frac{du_k}{dx}^\top \frac{du_k}{dx}
                  + I^\sigma_k\, \frac{d\log\sigma_k}{dx}^\top \frac{d\log\sigma_k}{dx}

        with :math:`I_k = \sigma_k^{-2}` and :math:`I^\sigma_k = 2` for normal noise; priors add
        their curvature.
        """
        parts = [np.sqrt(self.slopes.information)[:, None] * self.dlocation]
        if self.dlog_sigma.any():
            parts.append(np.sqrt(self.slopes.information_sigma)[:, None] * self.dlog_sigma)
        if self.prior.curvature.any():
            parts.append(np.diag(np.sqrt(self.prior.curvature)))
        return np.vstack(parts)


def join_scores(
    rows: Sequence[Rows], places: NDArray[np.intp], slopes: Floats, prior: PriorTerms
) -> Scores:
    """Return the scores of all parts, in their order, on the scale of the estimated parameters."""
    if len(rows) == 1:
        (only,) = rows
        return Scores(
            only.slopes,
            only.log_sigma,
            only.dlocation[:, places] * slopes,
            only.dlog_sigma[:, places] * slopes,
            prior,
        )
    return Scores(
        Slopes(*(np.concatenate(parts) for parts in zip(*(r.slopes for r in rows), strict=True))),
        np.concatenate([r.log_sigma for r in rows]),
        np.concatenate([r.dlocation for r in rows])[:, places] * slopes,
        np.concatenate([r.dlog_sigma for r in rows])[:, places] * slopes,
        prior,
    )
