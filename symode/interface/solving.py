"""The work behind `Model.solve` and `Model.gradient`: values checked, layers joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from symode.codegen.backends import compile_kernels
from symode.codegen.compiled import NativeModel
from symode.codegen.program import make_bundle
from symode.equations.equations import Equations
from symode.equations.forcing import forcing_of
from symode.equations.loss import LossLike, resolve_loss
from symode.equations.values import initial_vector, named, vector
from symode.errors import (
    InitialStateError,
    OptionError,
    ParameterError,
    UnsupportedCombinationError,
)
from symode.gradients.as_scipy import scipy_system
from symode.gradients.black_box import BlackBox, black_box_gradient, scipy_solver
from symode.gradients.choose import choose_method
from symode.gradients.jumps import refuse_events
from symode.gradients.mass import refuse_mass
from symode.gradients.methods import BacksolveAdjoint, GradientMethod, get_gradient_method
from symode.gradients.pack import ARGUMENTS, Layout
from symode.gradients.setup import closed_span, make_layout, make_task
from symode.gradients.task import Outcome
from symode.gradients.tightened import tightened
from symode.gradients.value_and_grad import Gradient, ValueAndGrad
from symode.kernels import types as kt
from symode.solvers import native
from symode.solvers.event_functions import BACKWARDS, EventFunctions, switches_of
from symode.solvers.events import EventRun
from symode.solvers.integrate import Forward, check_span, check_times, integrate
from symode.solvers.mass import MassMatrix, check_pencil
from symode.solvers.options import DEFAULT_STIFF, SolverOptions, check_names, make_options
from symode.solvers.solution import Solution
from symode.symbolic.derive import FIELD_KERNELS, derive_jac, derive_rhs, linear_kernels
from symode.symbolic.lift import lift_expressions, lift_field, lift_initial

if TYPE_CHECKING:
    from symode.interface.model import Model


def solve(
    model: Model,
    span: Sequence[float],
    theta: Any,
    z0: Any,
    *,
    times: Any,
    dense_output: bool,
    raise_on_failure: bool,
    backend: str = "llvm",
    **options: Any,
) -> Solution:
    """Return the trajectory, see `Model.solve`."""
    equations = model.equations
    check_names(options, "solve()", "times", "dense_output", "raise_on_failure")
    t0, t1 = check_span(span)
    solver = make_options(equations.state_names, **options, mass=equations.mass is not None)
    values = parameters(equations, theta)
    plain = field = lift_field(equations)
    if equations.events and t1 < t0:
        raise UnsupportedCombinationError(BACKWARDS)
    frozen = switches_of(equations, field, solver, t0, t1)
    if frozen is not None:
        field = replace(field, graph=frozen.graph)
    located = bool(equations.events) or frozen is not None
    n_inputs = equations.n_parameters + (0 if frozen is None else frozen.n_inputs)
    if equations.mass is not None:
        check_pencil(equations, field)
    if z0 is None:
        needs_initial(equations)

    # Machine code of earlier solves: finding it in the store again takes half a second for a
    # thousand states.
    natives = model.__dict__.setdefault("_natives", {})

    def build(options: SolverOptions) -> tuple[NativeModel, kt.System]:
        kind = (options.tableau.implicit, options.tableau.complex_pairs)
        key = (backend, options.is_stiff, *kind, z0 is None, frozen is None)
        if key not in natives:
            pattern = native.native_pattern(field if options.is_stiff else None)
            natives[key] = (compiled_for(options), pattern)
        compiled, pattern = natives[key]
        p = compiled.pack(values)
        return compiled, native.make_field(compiled, field.n_states, p, pattern)

    def compiled_for(options: SolverOptions) -> NativeModel:
        kernels = {"rhs": ("field", derive_rhs(field))}
        if options.is_stiff and not options.tableau.implicit:
            kernels["jac_values"] = ("field", derive_jac(field))
        elif options.is_stiff:
            kernels["jac"] = ("field", derive_jac(field))
            kernels |= linear_kernels(field, transposed=False, pairs=options.tableau.complex_pairs)
        if z0 is None:
            kernels["initial"] = ("field", lift_initial(equations, field.n_states)[0])
        return compile_kernels(kernels, n_inputs, backend)

    compiled, system = build(solver)
    p = system.p
    if z0 is None:
        y0 = compiled.call("initial", t0, np.zeros(field.n_states), p)
    else:
        y0 = initial_vector(equations, z0)
    inner = np.empty(0) if times is None else check_times(times, t0, t1)
    start = None
    if equations.mass is not None:
        start = MassMatrix(equations, field).start(compiled, p, t0, y0, solver)
        y0 = start.z
    forward = Forward(
        system,
        solver,
        native.make_observations(inner, field.n_states),
        field.n_states,
        compiled.work_size,
        keep=dense_output or times is None or located,
        build=build,
    )
    forward.start = start
    if located:
        kept = model.__dict__.setdefault("_events", {})
        if (frozen is None) not in kept:
            kept[frozen is None] = EventFunctions(equations, frozen=frozen)
        forward.events = EventRun(kept[frozen is None])
    if "_forcing" not in model.__dict__:
        model.__dict__["_forcing"] = forcing_of(equations)
    forcing = model.__dict__["_forcing"]
    if forcing is not None:
        forcing.check(t0, t1)
        forward.stops = forcing.stops
    solution = integrate(
        forward,
        y0,
        (t0, t1),
        equations.state_names,
        at_steps=times is None,
        raise_on_failure=raise_on_failure,
        jacobian=None if start else lambda t, z: scipy_system(plain, values).jac(t, z),
        dense_output=dense_output or times is None,
    )
    if not equations.observables:
        return solution
    # Imported here: most solves have no observables, and its special functions load slowly.
    from symode.codegen.reference import evaluate

    names, expressions = zip(*equations.observables, strict=True)
    graph = lift_expressions(equations, expressions)
    rows = evaluate(graph, solution.t, solution.z.T, values)
    courses = {
        name: np.broadcast_to(np.asarray(row, dtype=float), solution.t.shape)
        for name, row in zip(names, rows, strict=True)
    }
    return Solution(
        solution.t, solution.z, solution.names, solution.stats, solution.status, courses,
        solution.dense, solution.events,
    )  # fmt: skip


def gradient(
    equations: Equations,
    loss: LossLike,
    span: Sequence[float],
    theta: Any,
    z0: Any,
    *,
    method: str | GradientMethod,
    solver: str | BlackBox,
    wrt: Any = None,
    gradient_rtol: float | None = None,
    **options: Any,
) -> Gradient:
    """Return value and gradient, see `Model.gradient`."""
    check_names(options, "gradient()", "wrt", "method", "gradient_rtol")
    t0, t1 = check_span(span)
    values = parameters(equations, theta)
    if z0 is None:
        needs_initial(equations)
        start = None
    else:
        start = initial_vector(equations, z0, batch=True)
    resolved = resolve_loss(loss, equations)
    wrt = ARGUMENTS if wrt is None else wrt
    layout = make_layout(equations, resolved, closed_span(resolved, (t0, t1)), wrt)
    if gradient_rtol is not None:
        return tightened(
            lambda **finer: gradient(
                equations,
                loss,
                span,
                theta,
                z0,
                method=method,
                solver=solver,
                wrt=wrt,
                **{**options, **finer},
            ),
            np.concatenate([values[list(layout.places("theta"))], _sizes(layout, start)]),
            gradient_rtol,
            options.get("rtol", 1e-6),
            options.get("atol", 1e-8),
            abs(t1 - t0),
            options.get("h_max", np.inf),
        )
    if callable(solver) or str(solver).startswith("scipy:"):
        refuse_mass(equations, "A solver of another kind", f"Use solver={DEFAULT_STIFF!r}.")
        refuse_events(equations, "A solver of another kind", "Use one of symode's solvers.")
        if start is not None and start.ndim == 2:
            raise OptionError("A batch of z0 needs one of symode's solvers; got a black box.")
        task = make_task(
            equations, resolved, (t0, t1), from_initial=z0 is None, asked=layout.asked, **options
        )
        if isinstance(solver, str):
            box = scipy_solver(solver.removeprefix("scipy:"), task.options.rtol, task.options.atol)
        else:
            box = solver
        automatic = isinstance(method, str) and method.lower() == "auto"
        chosen = BacksolveAdjoint() if automatic else get_gradient_method(method)
        return as_gradient(layout, black_box_gradient(task, box, chosen, values, start), {})
    if start is not None and start.ndim == 2:
        vg = ValueAndGrad(
            equations, resolved, ("theta", "z0"), t0=t0, t1=t1, method=method, solver=solver,
            **options,
        )  # fmt: skip
        if wrt is not ARGUMENTS and layout.wrt != ("theta", "z0"):
            raise OptionError(f"A batch of z0 has gradients in theta and z0 alone; got wrt={wrt}.")
        member_values, dtheta, dz0 = vg.batch(values, start)
        return Gradient(
            float(member_values.sum()),
            named(dtheta.sum(axis=0), equations.parameter_names),
            named(dz0, equations.state_names),
            float("nan"), float("nan"), np.empty(0),
            {"method": vg.method.name, "reason": vg.reason, "members": len(member_values)},
        )  # fmt: skip
    task = make_task(
        equations, resolved, (t0, t1), from_initial=z0 is None, asked=layout.asked, solver=solver,
        **options,
    )  # fmt: skip
    reason = "chosen by the caller"
    if isinstance(method, str) and method.lower() == "auto":
        method, reason = choose_method(task)
    runner = get_gradient_method(method).prepare(task)
    return as_gradient(layout, runner(values, start), {"reason": reason})


def _sizes(layout: Layout, z0: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the magnitudes of initial values asked for; ones where the model's own are used."""
    places = list(layout.places("z0"))
    return np.ones(len(places)) if z0 is None else np.ravel(z0[..., places])


def as_gradient(layout: Layout, outcome: Outcome, extra: dict[str, Any]) -> Gradient:
    """Return what was asked for of a method's raw result, with the model's names."""
    kinds = {part.kind for part in layout.parts}
    return Gradient(
        outcome.value,
        layout.named("theta", outcome.theta),
        layout.named("z0", outcome.z0[list(layout.places("z0"))]),
        outcome.t0 if "t0" in kinds else float("nan"),
        outcome.t1 if "t1" in kinds else float("nan"),
        outcome.times if "times" in kinds else np.empty(0),
        {**outcome.stats, **extra},
    )


def parameters(equations: Equations, theta: Any) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return parameter values in order; none are needed where the model has none."""
    values = [] if theta is None and not equations.n_parameters else theta
    return vector(values, equations.parameter_names, "parameters", ParameterError)


def needs_initial(equations: Equations) -> None:
    """Raise unless the model has initial values of its own.

    Raises
    ------
    InitialStateError
        Naming the states that need values.
    """
    if equations.initial is None:
        raise InitialStateError(
            f"No initial values: pass z0= with one value for each of "
            f"{', '.join(equations.state_names)}, or give the model initial=."
        )


def source(equations: Equations, kernel: str) -> str:
    """Return readable Python source of a kernel, see `Model.source`."""
    from symode.codegen.numba_source import source as python_source

    if kernel not in FIELD_KERNELS:
        raise OptionError(
            f"There is no kernel {kernel!r}; choose one of {', '.join(FIELD_KERNELS)}."
        )
    signature, derive = FIELD_KERNELS[kernel]
    graph = derive(lift_field(equations))
    bundle = make_bundle({kernel: (signature, graph)}, equations.n_parameters)
    names = {("z", i): name for i, name in enumerate(equations.state_names)}
    names |= {("p", i): name for i, name in enumerate(equations.parameter_names)}
    return "\n\n".join(python_source(program, names) for program in bundle.programs)
