"""Does indomethacin leave the blood at one rate or two? Ask six subjects after an injection.

A drug that only leaves the blood decays on one exponential; one that also visits a second
compartment, such as tissue, on two. Both are fitted to each subject, and compared by their
likelihood.

Data: Kwan et al. (1976), Journal of Pharmacokinetics and Biopharmaceutics 4, 255.
"""

from pathlib import Path

import numpy as np
import sympy as sp

import symode

path = Path(__file__).parent / "data" / "indomethacin.csv"
table = np.loadtxt(path, delimiter=",", skiprows=3)
data = {
    f"{i}": symode.Data(rows[:, 1], {"conc": rows[:, 2]})
    for i in range(1, 7)
    for rows in [table[table[:, 0] == i]]
}

conc, tissue = sp.symbols("conc tissue", positive=True)
c_0, k_out, k_to, k_back, sigma = every = sp.symbols("c_0 k_out k_to k_back sigma", positive=True)
model = symode.Model(
    {conc: k_back * tissue - (k_to + k_out) * conc, tissue: k_to * conc - k_back * tissue},
    parameters=every,
    initial={conc: c_0, tissue: 0},
)

bounds = {c_0: (0.1, 20), k_out: (0.05, 20), k_to: (0.01, 20), k_back: (0.01, 5), sigma: (0.01, 1)}


def fitted(**fixed: float) -> symode.Fit:
    problem = symode.Problem(
        model,
        data,
        noise=symode.Normal(sigma),
        local=[c_0, k_out, k_to, k_back],
        bounds={symbol: pair for symbol, pair in bounds.items() if symbol.name not in fixed},
        scale="log10",
        fixed=fixed,
    )
    return symode.fit(problem, starts=8, seed=0, optimizer="scoring", workers=1)


two, one = fitted(), fitted(k_to=0.0, k_back=1.0)
gain = 2 * (one.value - two.value)
print(two.summary(), two.table(), sep="\n\n")
print(f"twice the gain in log-likelihood for 12 parameters more: {gain:.4g}")

# The rates of the two exponentials are eigenvalues of the equations.
a, b, c = (two.theta[f"{name}[1]"] for name in ("k_out", "k_to", "k_back"))
rates = np.sort(-np.linalg.eigvalsh([[-(a + b), np.sqrt(b * c)], [np.sqrt(b * c), -c]]))
print(f"subject 1: logarithms of the two rates {np.log(rates).round(4)}")

assert two.best.status == one.best.status == "converged" and two.n_best >= 4
# The 0.999 quantile of chi-square with 12 degrees of freedom is 32.9.
assert gain > 32.9
# R's example of SSbiexp fits subject 1 alone: -1.7878 and 0.5794.
assert np.allclose(np.log(rates), [-1.7878, 0.5794], atol=2e-4)
