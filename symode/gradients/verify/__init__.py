"""Verification of gradients: one file per check, all of one subject, one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from numpy.typing import ArrayLike

from symode.equations.equations import Equations
from symode.equations.loss import LossLike
from symode.equations.values import vector
from symode.errors import (
    GradientError,
    InitialStateError,
    OptionError,
    ParameterError,
    UnsupportedCombinationError,
)
from symode.gradients.choose import choose_method
from symode.gradients.methods import GradientMethod, get_gradient_method
from symode.gradients.setup import make_task
from symode.gradients.verify.agreement import check_methods, check_tolerances
from symode.gradients.verify.dot_product import check_dot_product
from symode.gradients.verify.ends import check_ends
from symode.gradients.verify.precise import check_precise
from symode.gradients.verify.report import Check, Report
from symode.gradients.verify.subject import Subject
from symode.gradients.verify.taylor import check_taylor
from symode.solvers.integrate import check_span
from symode.solvers.options import check_names

#: The checks, in the order they run; a new check is a new file here and its name in this list.
CHECKS: Final[tuple[Callable[[Subject], Check], ...]] = (
    check_tolerances,
    check_taylor,
    check_ends,
    check_dot_product,
    check_methods,
)


class HasEquations(Protocol):
    """A model, or anything that holds equations."""

    @property
    def equations(self) -> Equations:
        """The checked equations."""
        ...


def verify(
    model: HasEquations,
    loss: LossLike,
    span: Sequence[float],
    theta: Any = None,
    z0: Any = None,
    *,
    method: str | GradientMethod = "auto",
    solver: str = "auto",
    rtol: float = 1e-8,
    atol: ArrayLike | Mapping[Any, float] = 1e-10,
    seed: int = 0,
    precise: bool = False,
    **options: Any,
) -> Report:
    r"""Return a report on a gradient: whether it is the derivative, and how accurate.

    - *tolerances*: two runs with tolerances 100 times apart, on different meshes. The only evidence
      of accuracy.
    - *taylor*: the remainder :math:`|J(x + \varepsilon d) - J(x) - \varepsilon g \cdot d|` along
      random directions falls with slope 2 while the solver's accepted steps are replayed.
    - *ends*: :math:`dJ/dt_0, dJ/dt_1, dJ/dt_i` against differences on steps that follow the ends.
    - *dot product*: the discrete adjoint is the transpose of the tangents of the same steps.
    - *methods*: every other method that runs finds the same gradient.

    The last four show that the code differentiates what it computes; they do not see truncation
    errors.

    Parameters
    ----------
    model, loss, span, theta, z0, method, solver, rtol, atol
        As in `Model.gradient`. One trajectory: z0 of shape ``(n,)``.
    seed
        Of the random directions.
    precise
        Also replay the steps in 40 digits and compare the tangents: about 0.1 ms for each stage of
        each step and operation of f, so for small problems.
    **options
        ``max_steps``, ``h_max``.

    Raises
    ------
    SolverError
        When the forward solve fails: there is then no gradient to verify.
    UnsupportedCombinationError
        For a black-box solver, which does not show the steps that would be replayed.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    >>> report = symode.verify(model, symode.Loss(terminal=x**2), (0, 1), theta=[0.7])
    >>> report.passed, report["taylor"].digits > 9
    (True, True)
    """
    check_names(options, "verify()", "method", "seed", "precise")
    _check_model(model)
    if not isinstance(solver, str) or solver.startswith("scipy:"):
        raise UnsupportedCombinationError(
            "verify replays the accepted steps of a solve, which a black-box solver does not show. "
            "Verify with one of symode's solvers, and compare model.gradient(..., solver=...) "
            "with its gradient."
        )
    equations = model.equations
    needs = theta is not None or equations.n_parameters
    values = vector(theta if needs else [], equations.parameter_names, "parameters", ParameterError)
    start = None
    if z0 is not None or equations.initial is None:
        start = vector(z0, equations.state_names, "initial values", InitialStateError)
    t0, t1 = check_span(span)
    task = make_task(
        equations, loss, (t0, t1), from_initial=start is None, solver=solver, rtol=rtol, atol=atol,
        **options,
    )  # fmt: skip
    if isinstance(method, str) and method.lower() == "auto":
        chosen, _ = choose_method(task)
    else:
        chosen = get_gradient_method(method)
    subject = Subject(task, chosen, values, start, seed)
    title = (
        f"Gradient of a loss of {equations.n_states} states in {task.m} parameters by "
        f"{chosen!r} with {task.options.tableau.name}, rtol {task.options.rtol:g}."
    )
    try:
        value = subject.outcome(chosen, task).value
    except GradientError as error:
        refused = Check("gradient", False, 0.0, "accuracy", f"{type(error).__name__}: {error}")
        return Report(title, float("nan"), (refused,))
    chosen_checks = (*CHECKS, check_precise) if precise else CHECKS
    checks = tuple(_run(check, subject) for check in chosen_checks)
    return Report(f"{title}\nJ = {value:.12g}", value, checks)


def _check_model(model: Any) -> None:
    if isinstance(getattr(model, "equations", None), Equations):
        return
    way_out = ""
    if hasattr(model, "model") and hasattr(model, "loss"):
        way_out = " Pass its parts: verify(problem.model, problem.loss, (t0, t1), theta)."
    raise OptionError(f"verify expects a Model first; got a {type(model).__name__}.{way_out}")


def _run(check: Callable[[Subject], Check], subject: Subject) -> Check:
    try:
        return check(subject)
    except GradientError as error:
        # At the second tolerance: a method that runs at one only is not reliable here.
        name = check.__name__.removeprefix("check_").replace("_", " ")
        return Check(name, False, 0.0, "consistency", f"{type(error).__name__}: {error}")


__all__ = ["CHECKS", "Check", "Report", "verify"]
