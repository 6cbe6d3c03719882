"""Random models of every kind, with losses of every kind."""

import numpy as np
import sympy as sp

import symode

T = sp.Symbol("t")
SHAPES = (
    lambda s: s,
    lambda s: s,
    sp.sin,
    sp.cos,
    sp.tanh,
    lambda s: sp.exp(-(s**2)),
    lambda s: s / (1 + s**2),
    lambda s: sp.sqrt(1 + s**2),
)


def draw(seed: int):
    """Return model, loss, span and theta, all of them random, of every kind there is."""
    rng = np.random.default_rng(seed)
    z, p = sp.symbols(f"z0:{rng.integers(1, 5)}"), sp.symbols(f"p0:{rng.integers(1, 5)}")
    pool = (*z, *z, *p, T)

    def term() -> sp.Expr:
        factors = [
            SHAPES[rng.integers(len(SHAPES))](pool[rng.integers(len(pool))])
            for _ in range(rng.integers(1, 4))
        ]
        return sp.Float(round(rng.uniform(-1.5, 1.5), 3)) * sp.Mul(*factors)

    def total(most: int) -> sp.Expr:
        return sp.Add(*(term() for _ in range(rng.integers(1, most))))

    rhs = {s: total(4) - s / 5 for s in z}
    initial = {s: term().subs(dict.fromkeys(z, p[0])) + round(rng.uniform(0.2, 1), 2) for s in z}
    model = symode.Model(rhs, parameters=p, time=T, initial=initial)
    t0 = rng.uniform(-1, 1)
    t1 = t0 + rng.uniform(0.3, 2.5) * rng.choice([1, -1])
    kinds, parts = rng.integers(1, 8), {}
    if kinds & 1:
        parts["terminal"] = total(3)
    if kinds & 2:
        parts["running"] = total(3)
    if kinds & 4:
        times = [t0, t0 + 0.25 * (t1 - t0), t0 + 0.25 * (t1 - t0), t0 + 0.6 * (t1 - t0), t1]
        parts["observations"] = [(t, total(3)) for t in rng.permutation(times)]
    return model, symode.Loss(**parts), (t0, t1), rng.uniform(0.2, 1.5, len(p))
