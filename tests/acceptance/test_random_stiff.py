"""Random small stiff systems: no hang, no wrong success, every failure called by its cause.

A sample of ``benchmarks/random_stiff.py``, which runs ten thousand. The bound is 100 tolerances
times the condition: a solve of some hundred steps may leave one tolerance in each of them.
"""

import math

import numpy as np
import pytest

from benchmarks.random_stiff import STIFF, describe, judge
from benchmarks.stiff_systems import FAMILIES, StiffCase, cases, structure

SAMPLE = list(cases(160, seed=20, draws=4))


@pytest.mark.parametrize("solver", STIFF)
def test_random_stiff_systems_are_solved_or_refused_with_the_cause(solver):
    judge(SAMPLE[0], solver)  # compiles the solver
    faults = [
        f"{verdict}: {describe(case)}"
        for case in SAMPLE
        if (verdict := judge(case, solver)).kind not in ("right", "ended")
    ]
    assert not faults, "\n".join(faults)


def test_the_sample_holds_all_families_and_both_outcomes():
    assert {case.family for case in SAMPLE} == set(FAMILIES)
    assert 5 <= sum(not case.exists for case in SAMPLE) <= 60
    assert sum(case.span[1] < case.span[0] for case in SAMPLE) > 10
    rates = np.concatenate([np.abs(c.theta[c.theta != 0]) for c in SAMPLE])
    assert np.log10(rates.max() / rates.min()) > 8


@pytest.mark.parametrize("family", [f for f in FAMILIES if f not in ("mass_action", "oscillator")])
@pytest.mark.parametrize("seed", range(4))
def test_closed_forms_obey_their_equations(family, seed):
    # Judges the judge: the flow's slope in time against the right-hand side as SymPy evaluates it.
    # A central difference of step h = 1e-5 / rate leaves h^2 of the slope, and rounding 1e-16 / h.
    equations = structure(family, seed)
    case = equations.draw(np.random.default_rng(seed))
    f = case.structure.model.as_scipy(case.theta).fun
    t0, t1 = case.span
    end = t0 + 0.4 * min(1.0, case.t_end / abs(t1 - t0)) * (t1 - t0)
    fastest = max(float(np.abs(case.theta).max()), 1 / abs(t1 - t0))
    h = 1e-5 / fastest
    sides = [
        equations.solve(case.theta, case.z0[None], t0, t, case.rtol, case)[0][0]
        for t in (end - h, end, end + h)
    ]
    slope, exact = (sides[2] - sides[0]) / (2 * h), np.asarray(f(end, sides[1]))
    sizes = np.abs(exact) + np.abs(sides[1]) * fastest + case.scale * fastest
    assert np.max(np.abs(slope - exact) / sizes) < 1e-6


def test_the_condition_of_growth_is_what_growth_does():
    # z' = r z from 1: an error at the start grows with the solution, so the condition is 1; near
    # a pole an error moves the pole, and the condition is 1/(1 - share of the time to it).
    drawn = (structure("blow_up", seed).draw(np.random.default_rng(seed)) for seed in range(100))
    grown = next(case for case in drawn if case.exists and case.structure.n == 1)
    share = abs(grown.span[1] - grown.span[0]) / grown.t_end
    assert grown.condition == pytest.approx(max(1.0, 1 / (1 - share)), rel=0.05)
    assert math.isfinite(grown.condition)


def test_a_failure_where_the_solution_goes_on_is_a_fault_with_its_message():
    # Two steps do not reach the end of any of these, in no family is that an end of the solution.
    for family in ("curve", "linear", "mass_action"):
        case = structure(family, 1).draw(np.random.default_rng(1))
        assert case.exists
        verdict = judge(case, "rodas5p", max_steps=2)
        assert verdict.kind == "wrong failure", verdict
        assert "max_steps" in verdict.text


def test_a_method_for_mild_stiffness_may_refuse_by_name_only():
    # Rates up to a million to the span, driven: 2,000 explicit steps do for the mild ones.
    driven = [case for case in SAMPLE if case.family in ("forced", "curve")]
    kinds = [judge(case, "rock4", max_steps=2000).kind for case in driven]
    assert set(kinds) == {"right", "refused"}
    case = driven[kinds.index("refused")]
    for solver, kind in (("tsit5", "wrong failure"), ("rodas5p", "right")):
        judge(case, solver)  # compiles the solver
        assert judge(case, solver, max_steps=2000).kind == kind


@pytest.mark.parametrize("solver", ["esdirk43", "esdirk54"])
def test_a_last_iterate_without_error_does_not_vouch_for_the_next_stage(solver):
    # A chain of six states, two of them a million times faster than the span: errors of an iterate
    # pass down the chain and are gone after the last, whose rate says nothing. 89 and 125
    # tolerances were lost so; 20 leave room for what an error estimate hides in one step.
    theta = [
        3634763.698558669, 5859988.490646594, 45.972022359019384, 4.126142091692317,
        0.2262326526341395, 0.4245540815332555, 46.95277166813264, 2.384961625584685,
        0.2310884520076606, 0.015630501579952116, 0.07276930842103568, 17.614767916154594,
        605.236246824946, 0.13782756376333927, 1.9951109364629, -0.8719413687334288,
        1.2248808288240869, -1.2395424413751877, 0.6841335154463186,
    ]  # fmt: skip
    z0 = [
        -1.1415293880059025, -0.6321156922786408, -1.4445922634268182, 0.09138769005124792,
        0.9457508404485807, -0.05034790505182035,
    ]  # fmt: skip
    case = StiffCase(
        "bent", structure("bent", 881461107), np.array(theta), np.array(z0),
        (-0.6319970032420681, -0.39173069941719957), 5.012306619433442e-09, np.ones(6),
    )  # fmt: skip
    verdict = judge(case, solver)
    assert verdict.error < 20, verdict
