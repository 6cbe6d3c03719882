"""Can a small network learn a spiral from one trajectory? Train 252 weights by the adjoint method.

The data are those of R. T. Q. Chen's demonstration of neural ODEs (torchdiffeq, ode_demo.py, after
Chen, Rubanova, Bettencourt, Duvenaud, NeurIPS 2018): dz/dt = z^3 A in row vectors, z(0) = (2, 0), t
from 0 to 25; so is the network, dz/dt = W2 tanh(W1 z^3 + b1) + b2 with 50 hidden units. It is
trained by L-BFGS on horizons that grow, so that each begins where the last one has led. Loss curve
and phase portrait go to docs/_static/spiral_neural_ode.png, or to a path given.
"""

import sys
from pathlib import Path

import matplotlib
import numpy as np
import sympy as sp
from scipy.optimize import minimize

import symode

HIDDEN, HORIZONS = 50, (1, 2, 4, 6.5, 10, 15, 20, 25)

x, y = z = sp.symbols("x y")
spiral = sp.Matrix([[x**3, y**3]]) * sp.Matrix([[-0.1, 2], [-2, -0.1]])
truth = symode.Model(dict(zip(z, spiral, strict=True)), parameters=(), initial={x: 2, y: 0})
times = np.linspace(0, 25, 251)[1:]
data = truth.solve((0, 25), times=times, rtol=1e-9, atol=1e-11).z

W1 = sp.Matrix(HIDDEN, 2, sp.symbols(f"W1_0:{2 * HIDDEN}"))
W2 = sp.Matrix(2, HIDDEN, sp.symbols(f"W2_0:{2 * HIDDEN}"))
b1, b2 = sp.Matrix(sp.symbols(f"b1_0:{HIDDEN}")), sp.Matrix(sp.symbols("b2_0:2"))
network = W2 * (W1 * sp.Matrix([x**3, y**3]) + b1).applyfunc(sp.tanh) + b2
model = symode.Model(
    dict(zip(z, network, strict=True)), parameters=[*W1, *b1, *W2, *b2], initial={x: 2, y: 0}
)

rng = np.random.default_rng(0)
sizes = [(0.1, W1), (0.0, b1), (0.1, W2), (0.0, b2)]
theta = np.concatenate([scale * rng.standard_normal(len(block)) for scale, block in sizes])
curves = []
for horizon in HORIZONS:
    seen = times < horizon + 1e-9
    loss = symode.LeastSquares(times[seen], data[seen], weights=1 / (2 * seen.sum()))
    vg = model.value_and_grad(loss, wrt="theta", rtol=1e-6, atol=1e-8)
    last = horizon == HORIZONS[-1]
    curve: list[float] = []

    def objective(point, vg=vg, curve=curve):
        try:
            value, gradient = vg(point)
        except symode.SolverError:  # a step too far: the line search comes back
            return 1e3, np.zeros_like(point)
        curve.append(value)
        return value, gradient

    found = minimize(
        objective, theta, jac=True, method="L-BFGS-B",
        options={"maxiter": 1000 if last else 60, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-9},
    )  # fmt: skip
    theta = found.x
    curves.append(curve)
    print(f"t <= {horizon:4g}: mean square error {found.fun:.1e} after {len(curve)} gradients")

learned = model.solve((0, 25), theta=theta, rtol=1e-8, atol=1e-10)
error = np.sqrt(np.mean((learned(times) - data) ** 2))
print(f"{vg.size} weights by {vg.method.name} adjoint; root mean square error {error:.1e}")

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

_, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
at = 0
for horizon, curve in zip(HORIZONS, curves, strict=True):
    left.semilogy(
        at + np.arange(len(curve)), np.minimum.accumulate(curve), label=f"t ≤ {horizon:g}"
    )
    at += len(curve)
left.set(
    xlabel="gradients",
    ylabel="mean square error, best so far",
    title="Training on growing horizons",
)
left.legend(fontsize="small", frameon=False)
side = np.linspace(-2.3, 2.3, 24)
grid = np.meshgrid(side, side)
field = sp.lambdify((x, y, *model.parameters), list(network))(*grid, *theta)
right.streamplot(*grid, *field, color="0.8", density=1.1, linewidth=0.8, arrowsize=0.8)
right.plot(*data.T, ".", color="black", ms=3, label="data")
right.plot(*learned(np.linspace(0, 25, 5000)).T, color="C3", label="network")
right.set(xlabel="x", ylabel="y", title="Phase portrait, with the learned field")
right.set_aspect("equal")
right.legend(loc="upper right", fontsize="small")
default = Path(__file__).parents[1] / "docs" / "_static" / "spiral_neural_ode.png"
picture = Path(sys.argv[1]) if len(sys.argv) > 1 else default
picture.parent.mkdir(parents=True, exist_ok=True)
plt.savefig(picture, dpi=100)
print(f"picture: {picture}")

# The trajectory's size is 1: three per cent of it, at every time up to 25.
assert error < 0.03
