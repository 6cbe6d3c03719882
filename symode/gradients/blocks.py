"""Blocks: several adjoints through one backward pass over the stored steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from symode.codegen.compiled import NativeModel
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.forward import Forward
from symode.status import SUCCESS

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Blocks:
    """Memory to carry ``width`` adjoints at once back over the steps of an explicit method.

    The kernel is that of one adjoint. Lam, the stages' adjoints and the seeds hold the adjoints one
    after the other, and the product with the Jacobian takes them all: what it needs of f, and the
    stages' states, are computed once for all.

    Parameters
    ----------
    width
        Adjoints a pass.
    system
        The model with the product of ``width`` vectors.
    scratch, gradient
        Memory of the pass, and what it leaves.
    """

    width: int
    system: kt.Field
    scratch: kt.Scratch
    gradient: kt.Gradient

    @classmethod
    def of(
        cls, width: int, system: kt.Field, method: kt.Erk, compiled: NativeModel, m: int
    ) -> Blocks:
        """Return the memory of blocks of a width, whose product is among the compiled kernels."""
        n = system.n
        address = system.address.copy()
        address[kt.VJP] = compiled.address[f"vjp_block{width}"]
        wide = system._replace(address=address)
        scratch = native.make_scratch(method, wide, width * n, compiled.work_size)
        scratch = scratch._replace(z=np.zeros(width * n), out=np.zeros(width * (n + m) + 2))
        gradient = kt.Gradient(np.zeros(kt.N_SCALARS), np.zeros(width * n), np.zeros(width * m))
        return cls(width, wide, scratch, gradient)

    def pull_back(
        self, forward: Forward, table: kt.LossTable, seeds: Floats, lam: Floats, theta: Floats
    ) -> int:
        """Carry the adjoints of some losses from t1 to t0, in place; return a status.

        Parameters
        ----------
        seeds
            Of each loss at each observation. Shape ``(K, r, n)``.
        lam, theta
            Adjoints at t1, and direct derivatives; at the end those at t0, and dJ/dtheta. Shapes
            ``(r, n)`` and ``(r, m)``, r up to ``width``.
        """
        from symode.kernels.transpose import transpose_steps

        rows, n = lam.shape
        m, scratch, gradient = theta.shape[1], self.scratch, self.gradient
        spread = np.zeros((seeds.shape[0], self.width * n))
        spread[:, : rows * n] = seeds.reshape(-1, rows * n)
        gradient.lam[:], gradient.theta[:] = 0.0, 0.0
        gradient.lam[: rows * n], gradient.theta[: rows * m] = lam.ravel(), theta.ravel()
        wide = table._replace(seeds=spread)
        for segment in reversed(forward.segments):
            count = scratch.count
            count[kt.LEFT] = segment.steps
            count[kt.FIRST_OBS], count[kt.NEXT_OBS] = segment.first, segment.stop
            scratch.k[segment.method.n_dense] = 0.0
            status = forward.driver.run(
                lambda budget, s=segment: transpose_steps(  # type: ignore[misc]
                    s.method, self.system, s.store, forward.observations, wide, scratch, gradient,
                    budget,
                )
            )  # fmt: skip
            if status != SUCCESS:
                return status
        lam[:] = gradient.lam[: rows * n].reshape(rows, n)
        theta[:] = gradient.theta[: rows * m].reshape(rows, m)
        return SUCCESS
