"""How fast did influenza spread in a boarding school, and how many fell ill? Ask its sick bay.

In January 1978 one boy brought influenza to a school of 763. Boys in bed were counted each day;
they are the infectious ones of the SIR model, with counts that scatter more than chance alone.
Profiles say how sure the estimates are.

Counts: Anonymous (1978), British Medical Journal 1, 587; as in the R package outbreaks,
influenza_england_1978_school. Day 1 is 22 January.
"""

import numpy as np
import sympy as sp

import symode

IN_BED = [3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4]
BOYS = 763

well, ill, beta, gamma, size = sp.symbols("well ill beta gamma size", positive=True)
model = symode.Model(
    {well: -beta * well * ill / BOYS, ill: beta * well * ill / BOYS - gamma * ill},
    parameters=[beta, gamma, size],
    initial={well: BOYS - 1, ill: 1},
)
problem = symode.Problem(
    model,
    symode.Data(np.arange(1, 15), {"ill": IN_BED}),
    noise=symode.NegativeBinomial(size),
    bounds={beta: (0.1, 10), gamma: (0.02, 2), size: (0.1, 1000)},
    scale="log10",
)
fit = symode.fit(problem, starts=10, seed=0, optimizer="scoring", workers=1)
print(fit.summary(), fit.table(), sep="\n\n")
profiles = fit.profiles([beta, gamma], workers=1)
print(*profiles.values(), sep="\n")

# Every infected boy infected R0 others at first. The boys who escape are a share e with
# log(e) = R0 (e - 1): the final size of the model (Kermack & McKendrick, 1927).
r_0 = fit.theta["beta"] / fit.theta["gamma"]
escaped = float(sp.nsolve(sp.log(well) - r_0 * (well - 1), well, 0.05))
print(f"R0 = {r_0:.2f}; {100 * (1 - escaped):.0f} % fell ill")

# Grinsztajn, Semenova, Margossian & Riou (2021), Statistics in Medicine 40, 6209, with
# weak priors: posterior means 1.73 and 0.54.
assert fit.best.status == "converged" and fit.n_best >= 5
for name, published in {"beta": 1.73, "gamma": 0.54}.items():
    low, high = profiles[name].interval
    assert profiles[name].is_identifiable and low < published < high
    assert abs(fit.theta[name] - published) < 0.02
assert 0.93 < 1 - escaped < 0.97
