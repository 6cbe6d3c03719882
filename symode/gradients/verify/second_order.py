r"""The Taylor test of third order: with the Hessian the remainder falls with slope 3.

.. math:: R(\varepsilon) = |J(x + \varepsilon d) - J(x) - \varepsilon\, g \cdot d
          - \tfrac12 \varepsilon^2 d^\top H d| = O(\varepsilon^3)

J, g and H are those of the same accepted steps, so all agree to rounding.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from symode.errors import SymodeError
from symode.gradients.methods import DiscreteAdjoint
from symode.gradients.methods.watched import WatchedRunner
from symode.gradients.second_order import HessianProduct
from symode.gradients.verify.difference import derivative, rounding_noise
from symode.gradients.verify.frozen import FrozenLoss
from symode.gradients.verify.report import Check, Curve, digits_of
from symode.gradients.verify.subject import Subject
from symode.gradients.verify.taylor import LADDER, SAFETY, order_of, too_sharp
from symode.solvers.replay import steps_of

Floats = NDArray[np.float64]

#: Random directions.
COUNT = 2
#: Agreement of dᵀHd with differences of g·d that counts as rounding.
ROUNDING = 1e-8
#: Error of a difference, relative to dᵀHd, above which it judges nothing.
VAGUE = 1e-3


def check_second_order(subject: Subject) -> Check:
    """Return the check of Hessian-vector products by remainders of third order."""
    task = replace(subject.task, from_initial=False)
    theta, start, m = subject.theta, subject.start, subject.task.m
    try:
        product = HessianProduct(task, DiscreteAdjoint())
        directions = subject.directions(COUNT)[:COUNT]
        products, runs = [], []
        for d in directions:
            products.append(np.concatenate(product(theta, start, d[:m], d[m:])))
            # Where a tangent chooses the steps, they are the direction's own.
            assert isinstance(product.used, WatchedRunner)
            runs.append(FrozenLoss(task, steps_of(product.used.last.forward)))
    except SymodeError as error:
        return Check.skip("second order", "consistency", str(error).split(". ")[0])
    details, curves, worst, passed = [], [], 0.0, True
    for k, (d, column, frozen) in enumerate(zip(directions, products, runs, strict=True)):
        curvature = float(column @ d)

        def slope(e: float, d: Floats = d, frozen: FrozenLoss = frozen) -> float:
            return float(frozen.tangents(theta + e * d[:m], start + e * d[m:], d[None, :])[0])

        true = derivative(slope, rounding_noise(slope, slope(0.0)))
        size = float(np.linalg.norm(column * subject.unit) * np.linalg.norm(d / subject.unit))
        size = max(size, abs(true.value), 1e-300)
        gap, doubt = abs(true.value - curvature) / size, true.error / size
        value, first = frozen(theta, start), slope(0.0)
        noise = max(float(np.spacing(abs(value))), 1e-300)
        left = np.array(
            [
                abs(
                    frozen(theta + e * d[:m], start + e * d[m:])
                    - value - e * first - 0.5 * e * e * curvature
                )
                for e in LADDER
            ]
        )  # fmt: skip
        order, _ = order_of(left, left > 100.0 * noise, 3.0)
        good = np.isfinite(left) & (left > 0.0)
        label = f"direction {k + 1}"
        curves.append(Curve(label, tuple(LADDER[good].tolist()), tuple(left[good].tolist()), 3))
        shown = "at rounding throughout" if np.isnan(order) else f"of slope {order:.2f}"
        details.append(f"{label}: remainder {shown}, dᵀHd off by {gap:.1e}")
        if doubt <= VAGUE:
            worst = max(worst, gap)
            passed &= bool(gap <= max(ROUNDING, SAFETY * doubt))
    if not passed and (grown := too_sharp(subject)):
        return Check.skip("second order", "consistency", grown)
    summary = f"dᵀHd of the same steps, with slope 3: off by {worst:.1e}"
    return Check(
        "second order", passed, digits_of(worst), "consistency", summary, tuple(details),
        curves=tuple(curves),
    )  # fmt: skip
