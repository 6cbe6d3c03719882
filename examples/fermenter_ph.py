"""How fast does a culture make acid, when all that was measured is the pH?

Substrate becomes lactic acid; the pH follows at once, through the balance of charges of acid and
buffer: an algebraic equation. Its one unknown rate is fitted to twelve noisy readings.
"""

import numpy as np
import sympy as sp

import symode

substrate, acid, ph, rate, half = sp.symbols("substrate acid pH rate half")  # mmol/l, h
protons = 1000 * sp.Float(10) ** -ph
buffer, pk_buffer, pk_acid = 40, 7.2, 3.86


def charged(total, pk):
    """Return the dissociated part of a weak acid."""
    return total / (1 + protons / (1000 * 10.0**-pk))


growth = rate * substrate / (half + substrate)
model = symode.Model(
    {substrate: -growth, acid: growth},
    # Sodium from the start of the culture, at pH 7; hydroxide counts for nothing here.
    algebraic={ph: 15.5 + protons - charged(acid, pk_acid) - charged(buffer, pk_buffer)},
    parameters=[rate, half],
    initial={substrate: 60, acid: 0, ph: 7},
)

truth = {"rate": 3.0, "half": 5.0}
hours = np.linspace(1, 12, 12)
readings = model.solve((0, 12), theta=truth, times=hours)["pH"]
readings = readings + 0.02 * np.random.default_rng(0).normal(size=hours.size)

data = symode.Data(hours, {"pH": readings})
problem = symode.Problem(
    model, data, noise=symode.Normal(0.02), scale="log10", fixed={half: truth["half"]}
)
fit = symode.fit(problem, starts=3, seed=0)
error = float(np.asarray(fit.intervals().standard_error)[0])
print(f"rate = {fit.theta['rate']:.3f} +- {error:.3f} mmol/l/h")

assert abs(fit.theta["rate"] - 3.0) < 3 * error < 0.2
