"""read_petab, version 2: the conformance suite, periods in closed form, and what is refused."""

from __future__ import annotations

import csv
import pickle
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import symode
from symode.errors import ImportFileError, OptionError
from tests.bridges.petab_files import sbml, write

pytest.importorskip("petab")
pytest.importorskip("libsbml")
yaml = pytest.importorskip("yaml")

SUITE = Path(__file__).parents[2].parent / "shared/data/petab/test_suite/v2.0.0/sbml"
CASES = sorted(p.name for p in SUITE.iterdir() if p.name.isdigit()) if SUITE.is_dir() else []
TIGHT = {"rtol": 1e-11, "atol": 1e-13}


@cache
def case_of(name: str) -> tuple[symode.PetabProblem, dict]:
    expected = yaml.safe_load((SUITE / name / f"_{name}_solution.yaml").read_text())
    return symode.read_petab(SUITE / name / f"_{name}.yaml"), expected


def read_tsv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file, delimiter="\t"))


@pytest.mark.parametrize("name", CASES)
def test_a_case_of_the_suite_gives_its_likelihood_chi2_and_simulations(name) -> None:
    problem, expected = case_of(name)
    assert problem.llh() == pytest.approx(expected["llh"], abs=expected["tol_llh"])
    assert problem.chi2() == pytest.approx(expected["chi2"], abs=expected["tol_chi2"])
    reference = read_tsv(SUITE / name / expected["simulation_files"][0])
    simulated = problem.simulate()
    assert list(simulated["observableId"]) == [row["observableId"] for row in reference]
    np.testing.assert_allclose(
        simulated["simulation"],
        [float(row["simulation"]) for row in reference],
        atol=expected["tol_simulations"],
        rtol=0,
    )
    if "unnorm_log_posterior" in expected:
        posterior = problem.llh() + problem.log_prior()
        tolerance = expected["tol_unnorm_log_posterior"]
        assert posterior == pytest.approx(expected["unnorm_log_posterior"], abs=tolerance)
        found = {problem.space.parameters[i]: prior for i, prior in problem.priors}
        for key, value in expected["log_prior"].items():
            # 1e-14 is asked: some units in the last place of these numbers around 3.
            assert -found[key].terms(problem.nominal[key])[0] == pytest.approx(value, abs=1e-14)


@pytest.mark.parametrize("name", CASES)
def test_gradients_of_a_case_agree_forward_adjoint_and_by_differences(name) -> None:
    problem, _ = case_of(name)
    rng = np.random.default_rng(3)
    x = problem.space.inside(problem.point() + 0.01 * rng.standard_normal(problem.size))
    _, gradient = problem.objective(x)
    size = np.linalg.norm(gradient)
    assert np.linalg.norm(problem.scores(x).gradient - gradient) <= 1e-6 * size
    # Along one direction; the solver's 1e-8 over h = 1e-4 is far below what is asked.
    v, h = rng.standard_normal(x.size), 1e-4
    v[x <= problem.space.lower + h * 5] = 0.0
    along = (problem.objective(x + h * v)[0] - problem.objective(x - h * v)[0]) / (2 * h)
    # Rounding of values as large as 1e6, over h.
    rounding = 1e-13 * abs(problem.objective(x)[0]) / h
    assert along == pytest.approx(gradient @ v, rel=1e-5, abs=1e-5 * size + rounding)


# -- periods ---------------------------------------------------------------------------------------

DECAY = {"parameters": {"k": 0.7, "u": 0.0, "x": 2.0}, "rates": {"x": "u - k * x"}}
K = "k 0.1 5 0.7 true"


def objective_agrees(problem: symode.PetabProblem, courses, theta: dict[str, float]) -> None:
    """Compare value and gradient with a closed form: courses(theta) are the simulations."""
    names = list(problem.space.names)
    x = np.array([theta[name] for name in names])
    measured = problem.measurements["measurement"].to_numpy(dtype=float)

    def exact(point) -> float:
        r = (np.array(courses(dict(zip(names, point, strict=True)))) - measured) / 0.1
        return 0.5 * float(r @ r) + r.size * np.log(0.1 * np.sqrt(2 * np.pi))

    value, gradient = problem.objective(x)
    assert value == pytest.approx(exact(x), rel=1e-8)
    # Differences of fourth order of the closed form: error h**4, and 1e-16/h of rounding.
    h = 1e-3
    for i, unit in enumerate(np.eye(x.size)):
        a, b, c, d = (exact(x + s * h * unit) for s in (1, -1, 2, -2))
        assert gradient[i] == pytest.approx((8 * (a - b) - (c - d)) / (12 * h), rel=1e-7)
    np.testing.assert_allclose(problem.scores(x).gradient, gradient, rtol=1e-7)


def after(x: float, u: float, k: float, t: float) -> float:
    """Return x' = u - k x after a time."""
    return u / k + (x - u / k) * np.exp(-k * t)


def test_parameters_and_states_change_at_the_times_of_periods(tmp_path) -> None:
    path = write(
        tmp_path,
        sbml(**DECAY),
        parameters=f"{K}\ndose 0.1 5 1.2 true",
        conditions="start x 1+dose\nfeed u dose*k\njolt x 0.5*x+k\njolt u u+time",
        experiments="a 0.5 start\na 1 feed\na 2.5 jolt",
        measurements="obs a 1 1.1\nobs a 2.5 0.9\nobs a 2.5 1.0\nobs a 4 0.8",
        observables="obs x 0.1",
    )
    problem = symode.read_petab(path, **TIGHT)

    def courses(p: dict[str, float]) -> list[float]:
        k, dose = p["k"], p["dose"]
        first = after(1 + dose, 0.0, k, 0.5)
        u = dose * k
        jolted = 0.5 * after(first, u, k, 1.5) + k
        # A measurement at the time of a change is of what it changed to.
        return [first, jolted, jolted, after(jolted, u + 2.5, k, 1.5)]

    objective_agrees(problem, courses, {"k": 0.8, "dose": 1.4})
    again = pickle.loads(pickle.dumps(problem))
    assert again.llh() == problem.llh()


def test_a_condition_may_come_again_and_again(tmp_path) -> None:
    path = write(
        tmp_path,
        sbml(**DECAY),
        parameters=f"{K}\ndose 0.1 5 1.2 true",
        conditions="dosed x x+dose",
        experiments="a 0 -\na 1 dosed\na 2 dosed\na 3 dosed\nb 0 -\nb 1.5 dosed",
        measurements="obs a 3.5 1.9\nobs b 2 1.1\nobs - 2 0.5",
        observables="obs x 0.1",
    )
    problem = symode.read_petab(path, **TIGHT)
    assert [part.name for part in problem.parts] == ["a", "b", "the model as it is"]

    def courses(p: dict[str, float]) -> list[float]:
        k, dose = p["k"], p["dose"]
        x = 2.0
        for _ in range(3):
            x = after(x, 0, k, 1) + dose
        other = after(after(2.0, 0, k, 1.5) + dose, 0, k, 0.5)
        return [after(x, 0, k, 0.5), other, after(2.0, 0, k, 2)]

    objective_agrees(problem, courses, {"k": 0.8, "dose": 1.4})


def test_after_rest_a_period_changes_what_it_finds(tmp_path) -> None:
    path = write(
        tmp_path,
        sbml(**DECAY),
        parameters=f"{K}\nu0 0.1 5 1.2 true",
        conditions="rest u u0\nthen x 3*x-k\nthen u u/2",
        experiments="a -inf rest\na 0 then",
        measurements="obs a 0 1.9\nobs a 1 1.1",
        observables="obs x 0.1",
    )
    problem = symode.read_petab(path, **TIGHT)

    def courses(p: dict[str, float]) -> list[float]:
        k, u = p["k"], p["u0"]
        start = 3 * u / k - k
        return [start, after(start, u / 2, k, 1)]

    objective_agrees(problem, courses, {"k": 0.8, "u0": 1.4})


def test_measurements_at_time_inf_are_of_the_rest_after_the_last_period(tmp_path) -> None:
    # a + b is conserved: at rest a takes back / (out + back) of it.
    model = sbml(
        {"out": 0.7, "back": 0.4, "a": 1.0, "b": 0.5},
        rates={"a": "back * b - out * a", "b": "out * a - back * b"},
    )
    path = write(
        tmp_path,
        model,
        parameters="out 0.1 5 0.7 true\nmore 0.1 5 1.0 true",
        conditions="rest out 2*out0\nadd a a+more\nadd out out0",
        experiments="one -inf rest\none 0 add\ntwo 0 -\ntwo 2 add",
        measurements="obs one inf 0.9\nobs two inf 0.8\nobs two 1 0.7",
        observables="obs a 0.1",
    )
    path.with_name("parameters.tsv").write_text(
        path.with_name("parameters.tsv").read_text().replace("out\t", "out0\t")
    )
    problem = symode.read_petab(path, **TIGHT)

    def courses(p: dict[str, float]) -> list[float]:
        back, out = 0.4, p["out0"]
        rest = (1.5 + p["more"]) * back / (out + back)
        # The second experiment starts with the model's own out, 0.7.
        share = 1.5 * 0.4 / 1.1
        return [rest, rest, share + (1.0 - share) * np.exp(-1.1)]

    objective_agrees(problem, courses, {"out0": 0.9, "more": 1.2})


def test_concentrations_stay_where_a_compartment_changes_its_size(tmp_path) -> None:
    # a -> b with k a box in amounts; b is not mentioned by the condition, a is.
    model = sbml(
        {"k": 0.7}, volume=2.0, species={"a": 1.5, "b": 0.5}, reactions=[("a", "b", "k * a * box")]
    )
    path = write(
        tmp_path,
        model,
        parameters=f"{K}\nmore 0.1 5 1.0 true",
        conditions="grow box 2*box+more\ngrow a 3*a",
        experiments="one 0 -\none 1 grow",
        measurements="obs one 1 0.9\nb one 1 0.8\nb one 2 0.7\nsize one 2 1.2",
        observables="obs a 0.1\nb_ b 0.1\nsize box*a 0.1",
    )
    for name in ("measurements", "observables"):
        table = path.with_name(f"{name}.tsv")
        table.write_text(table.read_text().replace("\nb\t", "\nb_\t"))
    problem = symode.read_petab(path, **TIGHT)

    def courses(p: dict[str, float]) -> list[float]:
        k, box = p["k"], 4 + p["more"]
        left = np.exp(-k)
        a, b = 3 * 1.5 * left, 0.5 + 1.5 * (1 - left)
        later = a * np.exp(-k)
        return [a, b, b + a - later, box * later]

    objective_agrees(problem, courses, {"k": 0.8, "more": 1.2})


def test_what_the_model_leaves_open_is_set_by_conditions_or_missed(tmp_path) -> None:
    # Neither the start of x, nor the gain, which only the tables know and a period changes.
    model = sbml({"k": 0.7, "x": None}, rates={"x": "-k * x"})
    tables = {
        "parameters": f"{K}\nmore 0.1 5 1.0 true",
        "conditions": "start x 2\nstart gain 1\nraise gain gain+more\nhalf x 2",
        "measurements": "obs one -2 0.9\nobs one 0 0.8\nobs one 1 0.7",
        "observables": "obs gain*x 0.1",
    }
    path = write(tmp_path, model, experiments="one -3 start\none 0 raise", **tables)
    problem = symode.read_petab(path, **TIGHT)

    def courses(p: dict[str, float]) -> list[float]:
        x = 2 * np.exp(-p["k"] * np.array([1.0, 3.0, 4.0]))
        return [x[0], (1 + p["more"]) * x[1], (1 + p["more"]) * x[2]]

    objective_agrees(problem, courses, {"k": 0.8, "more": 1.2})
    path = write(tmp_path, model, experiments="one -3 half\none 0 raise", **tables)
    with pytest.raises(ImportFileError, match="experiment one does not set gain"):
        symode.read_petab(path)


def test_initial_assignments_are_made_once(tmp_path) -> None:
    # speed = 2 k at the start of the experiment; later changes of k leave it.
    model = sbml(
        {"k": 0.7, "speed": None, "x": 1.0, "y": None},
        rates={"x": "-speed * x", "y": "-k * y"},
        starts={"speed": "2 * k", "y": "3 * k"},
    )
    path = write(
        tmp_path,
        model,
        parameters="k0 0.1 5 0.7 true",
        conditions="first k k0\nlater k 2*k0^2\nrest x 1",
        experiments="one 0 first\none 1 later",
        measurements="obs one 2 0.9\ny_ one 2 0.7",
        observables="obs x 0.1\ny_ y 0.1",
    )
    problem = symode.read_petab(path, **TIGHT)

    def courses(p: dict[str, float]) -> list[float]:
        k = p["k0"]
        return [np.exp(-4 * k), 3 * k * np.exp(-k - 2 * k**2)]

    objective_agrees(problem, courses, {"k0": 0.4})


def test_events_of_the_model_come_after_the_changes_of_a_period(tmp_path) -> None:
    # Pre-equilibrated at 1.4/k; the event at 3 has not come. Then x = 4 k crosses it at once.
    model = sbml(
        {"k": 0.7, "u": 0.0, "x": 2.0, "n": 0.0},
        rates={"x": "u - k * x", "n": "0"},
        events=[("x > 3", {"n": "n + x"})],
    )
    path = write(
        tmp_path,
        model,
        parameters="k 0.1 5 0.7 true\nu0 0.1 5 1.2 true",
        conditions="rest u u0\njump x 5*k",
        experiments="one -inf rest\none 0 jump",
        measurements="obs one 1 3.1\nx_ one 1 2.5",
        observables="obs n 0.1\nx_ x 0.1",
    )
    problem = symode.read_petab(path, **TIGHT)

    def courses(p: dict[str, float]) -> list[float]:
        return [5 * p["k"], after(5 * p["k"], p["u0"], p["k"], 1)]

    objective_agrees(problem, courses, {"k": 0.8, "u0": 1.4})


def test_an_event_on_the_way_to_rest_is_not_forgotten_and_does_not_come_twice(tmp_path) -> None:
    model = sbml(
        {"k": 0.7, "u": 0.0, "x": 0.0, "n": 1.0},
        rates={"x": "u - k * x", "n": "0"},
        events=[("x > 1", {"n": "n * 2 + u"})],
    )
    path = write(
        tmp_path,
        model,
        parameters="k 0.1 5 0.7 true\nu0 0.1 5 1.2 true",
        conditions="rest u u0\nthen k 0.5*k0",
        experiments="one -inf rest\none 0 then",
        measurements="obs one 1 3.1\nx_ one 1 2.5",
        observables="obs n 0.1\nx_ x 0.1",
    )
    table = path.with_name("parameters.tsv")
    table.write_text(table.read_text().replace("k\t0.1", "k0\t0.1"))
    problem = symode.read_petab(path, **TIGHT)

    def courses(p: dict[str, float]) -> list[float]:
        u = p["u0"]
        return [2 + u, after(u / 0.7, u, 0.5 * p["k0"], 1)]

    objective_agrees(problem, courses, {"k0": 0.8, "u0": 1.4})


def test_names_of_the_mapping_table_stand_for_ids_of_the_model(tmp_path) -> None:
    path = write(
        tmp_path,
        sbml(**DECAY),
        parameters="rate 0.1 5 0.7 true",
        conditions="feed inflow 2*rate\nfeed level 3",
        experiments="a 0 feed",
        measurements="obs a 1 1.1\nother a 1 0.2",
        observables="obs level 0.1\nother obs^2+rate 0.1",
        mapping="rate k\ninflow u\nlevel x\nnothing -",
    )
    problem = symode.read_petab(path, **TIGHT)
    assert problem.space.names == ("rate",)

    def courses(p: dict[str, float]) -> list[float]:
        x = after(3.0, 2 * p["rate"], p["rate"], 1)
        return [x, x**2 + p["rate"]]

    objective_agrees(problem, courses, {"rate": 0.9})


def test_placeholders_stand_for_what_each_row_says(tmp_path) -> None:
    path = write(
        tmp_path,
        sbml(**DECAY),
        parameters=f"{K}\ngain 0.1 5 1.2 true\nsigma 0.01 1 0.1 true",
        measurements="+ observableParameters noiseParameters\n"
        "obs - 1 1.1 gain;k^2 0.1\nobs - 2 0.6 1;0 0.1\nobs - 3 0.4 1;0 sigma",
        observables="+ observablePlaceholders noisePlaceholders noiseDistribution\n"
        "obs a*x+b s a;b s log-normal",
    )
    problem = symode.read_petab(path, **TIGHT)
    k, gain, sigma = 0.8, 1.3, 0.2
    x = 2 * np.exp(-k * np.array([1.0, 2.0, 3.0]))
    h, y = np.array([gain * x[0] + k**2, x[1], x[2]]), np.array([1.1, 0.6, 0.4])
    s = np.array([0.1, 0.1, sigma])
    terms = 0.5 * (np.log(y / h) / s) ** 2 + np.log(s * y * np.sqrt(2 * np.pi))
    found = problem.llh({"k": k, "gain": gain, "sigma": sigma})
    assert found == pytest.approx(-terms.sum(), rel=1e-9)


def test_the_scale_of_parameters_may_be_chosen(tmp_path) -> None:
    path = write(
        tmp_path, sbml(**DECAY), parameters=K, measurements="obs - 1 1.1", observables="obs x 0.1"
    )
    problem = symode.read_petab(path, scale="log10")
    assert problem.space.labels == ("log10(k)",)


@pytest.mark.skipif(not CASES, reason="the data folder is not beside this checkout")
@pytest.mark.parametrize("name", ["Brannmark_JBC2010", "Bruno_JExpBot2016"])
def test_a_published_problem_turned_into_version_2_keeps_its_likelihood(name, tmp_path) -> None:
    # The library's own conversion; with pre-equilibrations, and with starts set by conditions.
    library = pytest.importorskip("petab.v2.petab1to2")
    path = SUITE.parents[2] / "benchmark" / name / f"{name}.yaml"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library.petab1to2(path, output_dir=tmp_path)
    old, new = symode.read_petab(path), symode.read_petab(tmp_path / path.name)
    assert new.llh() == pytest.approx(old.llh(), rel=1e-12)


def test_bounds_stay_inside_the_support_of_priors_and_priors_are_in_the_objective(tmp_path) -> None:
    path = write(
        tmp_path,
        sbml(**DECAY),
        parameters="+ priorDistribution priorParameters\nk 0 5 0.7 true log-normal 0;1\n"
        "gain 0.1 9 1 true uniform 0.5;20\noffset -1 3 0 true - -",
        measurements="obs - 1 1.1",
        observables="obs gain*x+offset 0.1",
    )
    problem = symode.read_petab(path)
    # At 0 the density of k is 0: no search should end there.
    np.testing.assert_allclose(problem.space.lower, [5e-12, 0.5, -1.0])
    np.testing.assert_allclose(problem.space.upper, [5.0, 9.0, 3.0])
    theta = {"k": 0.6, "gain": 1.2, "offset": 0.1}
    wanted = stats.lognorm(1.0).logpdf(0.6) - stats.lognorm(1.0).logcdf(5.0)
    wanted += -np.log(8.5) - np.log(4.0)
    assert problem.log_prior(theta) == pytest.approx(wanted, rel=1e-12)
    value, _ = problem.objective(problem.point(theta))
    assert value == pytest.approx(-problem.llh(theta) - wanted, rel=1e-12)
    assert np.isfinite(symode.fit(problem, starts=3, seed=0).value)


# -- written back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES[:1] + CASES[-1:])
def test_a_fitted_case_is_written_back_and_has_the_same_objective(name, tmp_path) -> None:
    problem, _ = case_of(name)
    fitted = symode.fit(problem, starts=2, seed=1)
    path = symode.write_petab(fitted, tmp_path / "new")
    again = symode.read_petab(path)
    # The fit's own value is a sum over residuals, which rounds in another order.
    value = problem.objective(problem.point(fitted.theta))[0]
    assert again.objective(again.point())[0] == value == pytest.approx(fitted.value, rel=1e-12)
    folder = SUITE / name
    for file in folder.iterdir():
        if file.name in problem.files and file.name not in problem.parameter_files:
            assert (tmp_path / "new" / file.name).read_bytes() == file.read_bytes()
    with pytest.raises(OptionError, match="there already"):
        symode.write_petab(fitted, tmp_path / "new")
    assert symode.write_petab(problem, tmp_path / "new", overwrite=True) == path
    assert symode.read_petab(path).nominal == problem.nominal


def test_parameters_are_written_on_their_own_scale_beside_all_else(tmp_path) -> None:
    path = write(
        tmp_path,
        sbml(**DECAY),
        parameters=f"+ note\n{K} kept\nspread - - 0.1 false as_it_is",
        measurements="obs - 1 1.1",
        observables="obs x spread",
    )
    problem = pickle.loads(pickle.dumps(symode.read_petab(path, scale="log10")))
    new = symode.write_petab(problem, tmp_path / "new", {"k": 1 / 3})
    table = read_tsv(new.with_name("parameters.tsv"))
    assert [row["nominalValue"] for row in table] == [repr(1 / 3), "0.1"]
    assert [row["note"] for row in table] == ["kept", "as_it_is"]
    assert symode.read_petab(new).nominal == {"k": 1 / 3, "spread": 0.1}
