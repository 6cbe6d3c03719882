"""Which dose every eight hours keeps a drug above its threshold, two days on?

The model comes as people type it, in Antimony; it could come as SBML just as well, and it goes on
to others as such. The level before the seventh dose grows with the dose: one gradient tells how.
"""

import math

import sympy as sp

import symode

model = symode.read_antimony("""
    absorption: gut -> blood; k_in*gut        // mg, h
    elimination: blood -> ; k_out*blood
    gut = 0; blood = 0; k_in = 1.1; k_out = 0.2
    dose = 10; every = 8; due = 0
    E: at time >= due, t0=false: gut = gut + dose, due = due + every
""")
threshold, before_the_seventh = 5.0, 47.999

trough = symode.Loss(terminal=sp.Symbol("blood"))
gradient = model.gradient(trough, (0, before_the_seventh), theta=model.theta)
slope = gradient.theta["dose"]
dose = threshold / slope
print(f"{gradient.value:.3f} mg with a dose of 10 mg; {dose:.2f} mg keep it above {threshold} mg")

# By superposition: the trough is proportional to the dose, so its slope is the answer.
times = [before_the_seventh - 8 * i for i in range(6)]
k_in, k_out = 1.1, 0.2
each = [k_in / (k_in - k_out) * (math.exp(-k_out * t) - math.exp(-k_in * t)) for t in times]
assert abs(dose / (threshold / sum(each)) - 1) < 1e-5

# Others read it as SBML, and find the same.
again = symode.read_sbml(symode.write_sbml(model, theta={**model.theta, "dose": dose}))
solution = again.solve((0, before_the_seventh), theta=again.theta)
assert abs(solution["blood"][-1] - threshold) < 1e-5
