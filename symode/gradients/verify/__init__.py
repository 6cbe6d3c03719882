"""Verification of gradients: one file per check, all of one subject, one report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from numpy.typing import ArrayLike

from symode.equations.equations import Equations
from symode.equations.loss import LossLike
from symode.equations.values import initial_vector, vector
from symode.errors import (
    GradientError,
    OptionError,
    ParameterError,
    UnsupportedCombinationError,
)
from symode.gradients.choose import choose_method
from symode.gradients.jumps import refuse_events
from symode.gradients.mass import refuse_mass
from symode.gradients.methods import GradientMethod, get_gradient_method
from symode.gradients.setup import make_task
from symode.gradients.verify.agreement import check_methods, check_tolerances
from symode.gradients.verify.causes import likely_causes
from symode.gradients.verify.claims import check_claim, read_claim
from symode.gradients.verify.closed_form import check_closed_form
from symode.gradients.verify.complex_step import check_complex_step
from symode.gradients.verify.derivation import Derivation
from symode.gradients.verify.dot_product import check_dot_product
from symode.gradients.verify.ends import check_ends
from symode.gradients.verify.entries import entries_of
from symode.gradients.verify.precise import check_precise
from symode.gradients.verify.proof import check_proof
from symode.gradients.verify.reference import check_reference
from symode.gradients.verify.report import Check, Entry, Report
from symode.gradients.verify.second_order import check_second_order
from symode.gradients.verify.stability import check_stability
from symode.gradients.verify.subject import Subject
from symode.gradients.verify.taylor import check_taylor
from symode.solvers.integrate import check_span
from symode.solvers.options import check_names
from symode.symbolic.adjoint_system import adjoint_system

#: The checks by name, in the order they run; a new check is a new file here and its name in this
#: list.
CHECKS: Final[dict[str, Callable[[Subject], Check]]] = {
    "proof": check_proof,
    "closed form": check_closed_form,
    "reference": check_reference,
    "tolerances": check_tolerances,
    "taylor": check_taylor,
    "second order": check_second_order,
    "ends": check_ends,
    "dot product": check_dot_product,
    "complex step": check_complex_step,
    "methods": check_methods,
    "stability": check_stability,
    "precise": check_precise,
}
#: Made only where they are asked for.
ON_DEMAND: Final = frozenset({"precise"})


#: Options of `verify` itself.
KEYWORDS: Final = ("method", "seed", "precise", "reference_digits", "claimed", "checks")


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
    reference_digits: int | None = None,
    claimed: Any = None,
    checks: Sequence[str] | None = None,
    **options: Any,
) -> Report:
    r"""Return a report on a gradient: whether it is the derivative, and how accurate.

    - *proof*: the compiled products are those of Theorem 1 for this model, term by term, and the
      theorem's invariants hold, by SymPy; ``report.derivation`` shows the derivation.
    - *closed form*: where the equations have one, the exact gradient.
    - *reference*: the gradient to 30 digits by Taylor series in arbitrary precision, with an error
      estimate of its own; left out where that would take long.
    - *tolerances*: two runs with tolerances 100 times apart, on different meshes.
    - *taylor*: the remainder :math:`|J(x + \varepsilon d) - J(x) - \varepsilon g \cdot d|` along
      random directions falls with slope 2 while the solver's accepted steps are replayed.
    - *second order*: with the Hessian the remainder falls with slope 3.
    - *ends*: :math:`dJ/dt_0, dJ/dt_1, dJ/dt_i` against differences on steps that follow the ends.
    - *dot product*: the discrete adjoint is the transpose of the tangents of the same steps.
    - *complex step*: the same steps in complex numbers, no derivative of f used.
    - *methods*: every other method that runs finds the same gradient.
    - *stability*: how far errors grow, forwards and backwards, and which methods that rules out.

    Closed form, reference and tolerances bear on accuracy. The tests of consistency
    show that the code differentiates what it computes; they do not see truncation errors.

    Parameters
    ----------
    model, loss, span, theta, z0, method, solver, rtol, atol
        As in `Model.gradient`. One trajectory: z0 of shape ``(n,)``.
    seed
        Of the random directions.
    precise
        Also replay the steps in 40 digits and compare the tangents: about 0.1 ms for each stage of
        each step and operation of f, so for small problems.
    reference_digits
        Digits of the reference: None for 30 where that takes about a second, a number to spend up
        to a minute, 0 for none.
    claimed
        A gradient from elsewhere to be judged, with what is likely wrong in it: a mapping by name
        (of parameters, "x(t0)" for initial values, "t0", "t1") or by part ("theta", "z0"), an
        array of the parameters' derivatives, or a `Gradient`.
    checks
        Names of the checks to make, of those above; all by default.
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
    >>> report.passed, report["taylor"].digits > 9, report["reference"].digits > 8
    (True, True, True)
    >>> wrong = symode.verify(
    ...     model, symode.Loss(terminal=x**2), (0, 1), [0.7], claimed={"k": 1.9727757}
    ... )
    >>> wrong["claimed"].details[0]
    'likely: the whole gradient has its sign flipped'
    """
    check_names(options, "verify()", *KEYWORDS)
    wanted = _wanted(checks, precise)
    _check_model(model)
    if not isinstance(solver, str) or solver.startswith("scipy:"):
        raise UnsupportedCombinationError(
            "verify replays the accepted steps of a solve, which a black-box solver does not show. "
            "Verify with one of symode's solvers, and compare model.gradient(..., solver=...) "
            "with its gradient."
        )
    equations = model.equations
    refuse_mass(
        equations,
        "verify",
        "Compare DiscreteAdjoint with ForwardSensitivity, and gradient_rtol= with both.",
    )
    refuse_events(
        equations,
        "verify",
        "Compare DiscreteAdjoint with ForwardSensitivity, and gradient_rtol= with both.",
    )
    needs = theta is not None or equations.n_parameters
    values = vector(theta if needs else [], equations.parameter_names, "parameters", ParameterError)
    start = None
    if z0 is not None or equations.initial is None:
        start = initial_vector(equations, z0)
    t0, t1 = check_span(span)
    task = make_task(
        equations, loss, (t0, t1), from_initial=start is None, solver=solver, rtol=rtol, atol=atol,
        **options,
    )  # fmt: skip
    if isinstance(method, str) and method.lower() == "auto":
        chosen, _ = choose_method(task)
    else:
        chosen = get_gradient_method(method)
    claim = None if claimed is None else read_claim(claimed, equations)
    needed = "reference" in wanted or claim is not None
    subject = Subject(task, chosen, values, start, seed, reference_digits if needed else 0)
    title = (
        f"Gradient of a loss of {equations.n_states} states in {task.m} parameters by "
        f"{chosen!r} with {task.options.label}, rtol {task.options.rtol:g}."
    )
    try:
        value = subject.outcome(chosen, task).value
    except GradientError as error:
        text = f"{type(error).__name__}: {error}"
        tests = [Check("gradient", False, 0.0, "accuracy", text)]
        if "stability" in wanted:
            tests.append(_run("stability", check_stability, subject))
        return Report(title, float("nan"), tuple(tests), causes=likely_causes(subject, tests))
    tests = [_run(name, CHECKS[name], subject) for name in wanted]
    if claim is not None:
        tests.insert(0, check_claim(subject, claim))
    derivation = None
    if "proof" in wanted and not isinstance(subject.statements, str):
        derivation = Derivation(adjoint_system(equations, task.loss), tuple(subject.statements))
    return Report(
        f"{title}\nJ = {value:.12g}", value, tuple(tests), entries_of(subject),
        likely_causes(subject, tests), derivation,
    )  # fmt: skip


def _wanted(checks: Sequence[str] | None, precise: bool) -> list[str]:
    """Return the names of the checks to make, in the order they run."""
    if checks is None:
        return [name for name in CHECKS if name not in ON_DEMAND or precise]
    names = [checks] if isinstance(checks, str) else list(checks)
    unknown = [str(name) for name in names if name not in CHECKS]
    if unknown or not names:
        raise OptionError(
            f"checks must name some of {', '.join(CHECKS)}; got {', '.join(unknown) or 'none'}."
        )
    return [name for name in CHECKS if name in names or (precise and name == "precise")]


def _check_model(model: Any) -> None:
    if isinstance(getattr(model, "equations", None), Equations):
        return
    way_out = ""
    if hasattr(model, "model") and hasattr(model, "loss"):
        way_out = " Pass its parts: verify(problem.model, problem.loss, (t0, t1), theta)."
    raise OptionError(f"verify expects a Model first; got a {type(model).__name__}.{way_out}")


def _run(name: str, check: Callable[[Subject], Check], subject: Subject) -> Check:
    try:
        return check(subject)
    except GradientError as error:
        # At the second tolerance: a method that runs at one only is not reliable here.
        return Check(name, False, 0.0, "consistency", f"{type(error).__name__}: {error}")


__all__ = ["CHECKS", "Check", "Entry", "Report", "verify"]
