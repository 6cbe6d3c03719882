"""AMICI's side of `petab_speed.py`, run by a Python that has it: tables in, JSON out.

    python amici_peer.py FOLDER NAME POINTS OUT [MODELS]

POINTS is JSON: {"names": parameters, "points": rows on the parameters' scale, "tolerances": pairs}.
OUT gets, for each pair of tolerances, CPU seconds of every call, objectives and gradients on the
scale. With "bounds" (pairs on the scale) in it, SciPy's L-BFGS-B searches from every point instead,
and OUT gets the ends and CPU seconds. Compiled models are kept in MODELS, and are compiled at most
once.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path


def search(simulate, begin, wanted):
    """Return where L-BFGS-B ends from one point, and what it took."""
    import numpy as np
    from scipy.optimize import minimize

    calls = 0

    def objective(x):
        nonlocal calls
        calls += 1
        found = simulate(x)
        value = -found["llh"]
        gradient = np.array([-float((found["sllh"] or {}).get(i, np.nan)) for i in wanted["names"]])
        if not (np.isfinite(value) and np.isfinite(gradient).all()):
            return 1e12, np.zeros(len(begin))  # a failed solve is a wall
        return value, gradient

    start = time.process_time()
    end = minimize(
        objective, begin, jac=True, method="L-BFGS-B", bounds=wanted["bounds"],
        options={"maxiter": 1000, "maxfun": 5000, "ftol": 1e-12, "gtol": 1e-6},
    )  # fmt: skip
    return {"value": float(end.fun), "seconds": time.process_time() - start, "calls": calls}


def main() -> None:
    """Measure one problem."""
    begun = time.perf_counter()
    import amici
    import numpy as np
    import petab.v1 as petab
    from amici.importers.petab.v1 import import_petab_problem
    from amici.sim.sundials import SensitivityMethod, SensitivityOrder
    from amici.sim.sundials.petab.v1 import simulate_petab
    from amici.sim.sundials.petab.v1._conditions import create_edatas
    from amici.sim.sundials.petab.v1._parameter_mapping import create_parameter_mapping

    # Fixed parameters that are constants of the compiled model are named at every call.
    warnings.simplefilter("ignore", RuntimeWarning)
    folder, name, given, out = Path(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4]
    models = Path(sys.argv[5]) if len(sys.argv) > 5 else Path("amici_models")
    wanted = json.loads(Path(given).read_text())
    problem = petab.Problem.from_yaml(folder / name / f"{name}.yaml")
    petab.flatten_timepoint_specific_output_overrides(problem)
    target = models / name
    fresh = not (target / name).exists()
    model = import_petab_problem(problem, target, model_name=name, compile_=fresh or None)
    ready = time.perf_counter() - begun
    solver = model.create_solver()
    solver.set_sensitivity_order(SensitivityOrder.first)
    conditions = problem.get_simulation_conditions_from_measurement_df()
    edatas = create_edatas(
        amici_model=model, petab_problem=problem, simulation_conditions=conditions
    )
    mapping = create_parameter_mapping(
        petab_problem=problem, simulation_conditions=conditions, scaled_parameters=True,
        amici_model=model,
    )  # fmt: skip
    result = {"amici": amici.__version__, "first": ready, "fresh": fresh, "runs": []}
    ids = problem.x_free_ids
    fixed = {i: x for i, x in zip(problem.x_ids, problem.x_nominal_scaled, strict=True)}

    def simulate(x):
        return simulate_petab(
            problem, amici_model=model, solver=solver,
            problem_parameters=fixed | dict(zip(wanted["names"], x, strict=True)),
            scaled_parameters=True, scaled_gradients=True, edatas=edatas,
            parameter_mapping=mapping, simulation_conditions=conditions,
        )  # fmt: skip

    if "bounds" in wanted:
        solver.set_sensitivity_method(SensitivityMethod.forward)
        result["searches"] = [search(simulate, x, wanted) for x in wanted["points"]]
        Path(out).write_text(json.dumps(result))
        return
    for mode in ("forward", "adjoint"):
        solver.set_sensitivity_method(getattr(SensitivityMethod, mode))
        for rtol, atol in wanted["tolerances"]:
            solver.set_relative_tolerance(rtol)
            solver.set_absolute_tolerance(atol)
            seconds, inner, values, gradients = [], [], [], []
            for point in wanted["points"]:
                best, found = np.inf, None
                for _ in range(wanted.get("repeats", 3)):
                    start = time.process_time()
                    found = simulate(point)
                    best = min(best, time.process_time() - start)
                seconds.append(best)
                inner.append(sum(r.cpu_time_total for r in found["rdatas"]) / 1e3)
                values.append(-found["llh"])
                slope = found["sllh"] or {}
                gradients.append([-float(slope.get(i, np.nan)) for i in ids])
            result["runs"].append(
                {"mode": mode, "rtol": rtol, "atol": atol, "seconds": seconds, "inner": inner,
                 "values": values, "gradients": gradients, "names": list(ids)}
            )  # fmt: skip
    Path(out).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
