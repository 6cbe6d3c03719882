"""Scores: every measurement by itself, with the derivatives that all of statistics is made of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scores:
    r"""Every measurement's residual and spread at one point, with derivatives on the scale.

    Parameters
    ----------
    residuals
        :math:`r_k = (u(y_k) - u(h_k)) / \sigma_k`. Shape ``(K,)``.
    log_sigma
        Shape ``(K,)``.
    dlocation
        :math:`\sigma_k^{-1}\, du(h_k)/dx`. Shape ``(K, p)``.
    dlog_sigma
        :math:`d\log\sigma_k/dx`. Shape ``(K, p)``.
    """

    residuals: Floats
    log_sigma: Floats
    dlocation: Floats
    dlog_sigma: Floats

    @property
    def jacobian(self) -> Floats:
        r"""Return :math:`dr/dx`. Shape ``(K, p)``."""
        return -self.dlocation - self.residuals[:, None] * self.dlog_sigma

    @property
    def gradient(self) -> Floats:
        """Return the gradient of the negative log-likelihood. Shape ``(p,)``."""
        return np.asarray(self.residuals @ self.jacobian + self.dlog_sigma.sum(axis=0))

    @property
    def information_root(self) -> Floats:
        r"""Return W with :math:`W^\top W` the Fisher information. Shape ``(2 K, p)``.

        .. math:: F = \sum_k \sigma_k^{-2}\, \frac{du_k}{dx}^\top \frac{du_k}{dx}
                  + 2\, \frac{d\log\sigma_k}{dx}^\top \frac{d\log\sigma_k}{dx}
        """
        return np.vstack([self.dlocation, np.sqrt(2.0) * self.dlog_sigma])
