"""A published problem without a published value, against its model written and solved by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp

import symode

pytest.importorskip("petab")
pytest.importorskip("libsbml")

NAME = "Oliveira_NatCommun2021"
FOLDER = Path(__file__).parents[2].parent / "shared/data/petab/benchmark" / NAME
needs_data = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the data folder is not beside this checkout"
)


def read_tsv(stem: str) -> list[dict[str, str]]:
    with (FOLDER / f"{stem}_{NAME}.tsv").open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


def by_hand(p: dict[str, float]) -> float:
    """Return the log-likelihood: exposed to deaths, with a rate of contact that changes twice."""
    population, multiplier = 12098867.0, 0.0
    later = p["beta_2"] * multiplier + p["beta_1"] * (1.0 - multiplier)

    def rates(beta: float):
        def f(_, z):
            susceptible, exposed, silent, ill, _recovered, hospital, icu, _deaths, _cases = z
            infected = beta * susceptible * (ill + p["delta_"] * silent) / population
            falls_ill = p["kappa"] * p["p_symp_rate"] * exposed
            stays_well = p["kappa"] * (1 - p["p_symp_rate"]) * exposed
            to_hospital = p["h_hosp_rate"] * p["xi"] * p["gamma_s"] * ill
            to_icu = p["h_hosp_rate"] * (1 - p["xi"]) * p["gamma_s"] * ill
            heals = (1 - p["h_hosp_rate"]) * p["gamma_s"] * ill
            leaves = (1 - p["omega_h"]) * p["gamma_h"] * hospital
            worsens = p["omega_h"] * p["gamma_h"] * hospital
            dies = (1 - p["omega_u"]) * p["mu_u"] * p["gamma_u"] * icu
            returns = p["gamma_u"] * icu * ((1 - p["mu_u"]) + p["omega_u"] * p["mu_u"])
            return [
                -infected,
                infected - falls_ill - stays_well,
                stays_well - p["gamma_a"] * silent,
                falls_ill - heals - to_hospital - to_icu,
                p["gamma_a"] * silent + heals + (1 - p["mu_h"]) * leaves,
                to_hospital + returns - leaves - worsens,
                to_icu + worsens - dies - returns,
                p["mu_h"] * leaves + dies,
                falls_ill,
            ]

        return f

    exposed, silent, ill = (
        p[f"{name}_init_concentration"] for name in ("exposed", "asymptomatic", "symptomatic")
    )
    z = population * np.array([1 - exposed - silent - ill, exposed, silent, ill, 0, 0, 0, 0, ill])
    rows = read_tsv("measurementData")
    times = np.unique([float(row["time"]) for row in rows])
    spans = [(0.0, p["t_1"], p["beta_0"]), (p["t_1"], p["t_2"], p["beta_1"])]
    spans.append((p["t_2"], np.inf, later))
    courses = np.empty((times.size, 9))
    for start, end, beta in spans:
        here = (times >= start) & (times < end)
        stop = min(end, times[-1])
        if stop <= start:
            continue
        solution = solve_ivp(
            rates(beta), (start, stop), z, method="DOP853", rtol=1e-12, atol=1e-8, dense_output=True
        )
        courses[here] = solution.sol(times[here]).T
        z = solution.y[:, -1]
    place = {"cumulative_deaths": 7, "cumulative_cases": 8}
    terms = []
    for row in rows:
        value = courses[np.searchsorted(times, float(row["time"])), place[row["observableId"]]]
        sigma = p[row["noiseParameters"]]
        terms.append(0.5 * ((float(row["measurement"]) - value) / sigma) ** 2 + np.log(sigma))
    return -float(np.sum(terms)) - 0.5 * len(rows) * np.log(2 * np.pi)


@needs_data
def test_the_likelihood_and_its_slope_are_those_of_the_model_written_by_hand() -> None:
    problem = symode.read_petab(FOLDER / f"{NAME}.yaml", rtol=1e-10, max_steps=100_000)
    rng = np.random.default_rng(4)
    nominal = problem.point()
    moved = problem.space.inside(nominal + 0.02 * rng.standard_normal(nominal.size))

    def value(x) -> float:
        theta = dict(zip(problem.space.parameters, problem.space.theta(x), strict=True))
        return by_hand({**problem.nominal, **theta})

    for x in (nominal, moved):
        # An epidemic grows errors as it grows: some hundreds of times the 1e-10 of the solver.
        theta = dict(zip(problem.space.parameters, problem.space.theta(x), strict=True))
        assert problem.llh(theta) == pytest.approx(value(x), rel=1e-7)
    # At the nominal parameters the contacts change at the time of a measurement: the value stands.
    assert problem.objective(nominal)[0] == pytest.approx(-value(nominal), rel=1e-7)
    _, gradient = problem.objective(moved)
    v, h = rng.standard_normal(moved.size), 1e-5
    along = -(value(moved + h * v) - value(moved - h * v)) / (2 * h)
    # Differences: the third derivative times h**2, and 1e-11 of the solver over h.
    assert along == pytest.approx(gradient @ v, rel=1e-5)
    forward = problem.scores(moved).gradient
    assert np.linalg.norm(gradient - forward) < 1e-6 * np.linalg.norm(gradient)
