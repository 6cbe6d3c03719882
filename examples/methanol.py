"""Which of five proposed steps turn methanol into hydrocarbons? Ask the mole fractions.

Methanol gives olefins, and both give paraffins. A step that does not happen has the rate zero,
which is a bound of the search: one ends there, and the others alone reach the published optimum.

Mole fractions over dimensionless time: Maria (1989); Floudas et al. (1999), Handbook of Test
Problems; numbers as in the collection COPS (Dolan, Moré & Munson, 2004).
"""

import sympy as sp

import symode

TIMES = [0.050, 0.065, 0.080, 0.123, 0.233, 0.273, 0.354, 0.397,
         0.418, 0.502, 0.553, 0.681, 0.750, 0.916, 0.937, 1.122]  # fmt: skip
MEASURED = {
    "methanol": [0.7085, 0.5971, 0.5537, 0.3684, 0.1712, 0.1198, 0.0747, 0.0529,
                 0.0415, 0.0261, 0.0208, 0.0085, 0.0053, 0.0019, 0.0018, 0.0006],
    "olefins": [0.1621, 0.1855, 0.1989, 0.2845, 0.3491, 0.3098, 0.3576, 0.3347,
                0.3388, 0.3557, 0.3483, 0.3836, 0.3611, 0.3609, 0.3485, 0.3698],
    "paraffins": [0.0811, 0.0965, 0.1198, 0.1535, 0.2097, 0.2628, 0.2467, 0.2884,
                  0.2757, 0.3167, 0.2954, 0.2950, 0.2937, 0.2831, 0.2846, 0.2899],
}  # fmt: skip

a, b, c = sp.symbols(list(MEASURED), positive=True)
p1, p2, p3, p4, p5 = rates = sp.symbols("p1:6", positive=True)
whole = (p2 + p5) * a + b
model = symode.Model(
    {
        a: -(2 * p2 - p1 * b / whole + p3 + p4) * a,
        b: p1 * a * (p2 * a - b) / whole + p3 * a,
        c: p1 * a * (b + p5 * a) / whole + p4 * a,
    },
    parameters=rates,
    initial={a: 1, b: 0, c: 0},
)
problem = symode.Problem(model, symode.Data(TIMES, MEASURED), symode.Normal(0.02), bounds=(0, 20))
fit = symode.fit(problem, starts=20, seed=0, workers=1)
squares = 0.02**2 * 2 * problem.scores(problem.space.point(fit.theta)).misfit
print(fit.summary(), fit.table(), f"sum of squares: {squares:.5g}", sep="\n\n")

# The optimum is 9.02229e-3 in the collection COPS.
assert fit.best.status == "converged" and fit.n_best >= 15
assert abs(squares / 9.02229e-3 - 1) < 1e-4
assert dict(fit.best.at_bound) == {"p5": "lower"} and fit.theta["p5"] == 0.0
assert all(fit.theta[f"p{i}"] > 0.5 for i in range(1, 5))
