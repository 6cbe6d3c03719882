"""At which rates does hot alpha-pinene rearrange, and which products must be weighed to know?

Alpha-pinene turns into dipentene and allo-ocimene, and the latter into pyronenes and, reversibly,
its dimer. All five reactions are of first order. With all products weighed the rates are known to
some percent; with alpha-pinene alone only the sum of the first two is.

Percent by weight at 189.5 degrees: Fuguitt & Hawkins (1947), J. Am. Chem. Soc. 69, 319; numbers as
in Box, Hunter, MacGregor & Erjavec (1973), Technometrics 15, 33, whose rates are those below.
"""

import numpy as np
import sympy as sp

import symode

MINUTES = [1230, 3060, 4920, 7800, 10680, 15030, 22620, 36420]
MEASURED = {
    "pinene": [88.35, 76.4, 65.1, 50.4, 37.5, 25.9, 14.0, 4.5],
    "dipentene": [7.3, 15.6, 23.1, 32.9, 42.7, 49.1, 57.4, 63.1],
    "ocimene": [2.3, 4.5, 5.3, 6.0, 6.0, 5.9, 5.1, 3.8],
    "pyronene": [0.4, 0.7, 1.1, 1.5, 1.9, 2.2, 2.6, 2.9],
    "dimer": [1.75, 2.8, 5.8, 9.3, 12.0, 17.0, 21.0, 25.7],
}
PUBLISHED = [5.93e-5, 2.96e-5, 2.05e-5, 27.5e-5, 4.00e-5]

pinene, dipentene, ocimene, pyronene, dimer = states = sp.symbols(list(MEASURED), positive=True)
p = sp.symbols("p1:6", positive=True)
model = symode.Model(
    {
        pinene: -(p[0] + p[1]) * pinene,
        dipentene: p[0] * pinene,
        ocimene: p[1] * pinene - (p[2] + p[3]) * ocimene + p[4] * dimer,
        pyronene: p[2] * ocimene,
        dimer: p[3] * ocimene - p[4] * dimer,
    },
    parameters=p,
    initial=dict.fromkeys(states, 0) | {pinene: 100},
)


def problem_of(*names: str) -> symode.Problem:
    data = symode.Data(MINUTES, {name: MEASURED[name] for name in names})
    return symode.Problem(model, data, symode.Normal(1.0), bounds=(1e-7, 1e-1), scale="log10")


fit = symode.fit(problem_of(*MEASURED), starts=20, seed=0, workers=1)
squares = 2 * fit.problem.scores(fit.problem.space.point(fit.theta)).misfit
print(
    fit.summary(), fit.table(), f"sum of squares: {squares:.5g}", fit.identifiability(), sep="\n\n"
)

alone = symode.fit(problem_of("pinene"), starts=[fit.theta], workers=1)
print(alone.identifiability(), alone.profile(p[0]), sep="\n\n")

# The optimum is 19.872 in the collection COPS (Dolan, Moré & Munson, 2004).
assert abs(squares / 19.872 - 1) < 1e-3
assert fit.n_best >= 10
assert np.allclose(fit.theta, PUBLISHED, rtol=0.01)
assert fit.identifiability().is_identifiable
assert not alone.identifiability().is_identifiable
assert np.isclose(alone.theta["p1"] + alone.theta["p2"], sum(PUBLISHED[:2]), rtol=0.01)
