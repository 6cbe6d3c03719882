"""Gradient methods: one file each, all with the same interface."""

from __future__ import annotations

from symode.errors import OptionError
from symode.gradients.methods.backsolve import BacksolveAdjoint
from symode.gradients.methods.base import GradientMethod
from symode.gradients.methods.checkpointed import CheckpointedAdjoint
from symode.gradients.methods.complex_step import ComplexStep
from symode.gradients.methods.discrete import DiscreteAdjoint
from symode.gradients.methods.finite_difference import FiniteDifference
from symode.gradients.methods.gauss import GaussAdjoint
from symode.gradients.methods.interpolating import InterpolatingAdjoint
from symode.gradients.methods.sensitivity import ForwardSensitivity
from symode.solvers.methods import did_you_mean

#: One value of every method; a new method is a new file here and its name in this list.
METHODS: tuple[GradientMethod, ...] = (
    DiscreteAdjoint(),
    InterpolatingAdjoint(),
    BacksolveAdjoint(),
    ForwardSensitivity(),
    CheckpointedAdjoint(),
    GaussAdjoint(),
)

#: Methods that use no derivative of f: slow, and independent of all the others.
JUDGES: tuple[GradientMethod, ...] = (ComplexStep(), FiniteDifference())


def get_gradient_method(method: str | GradientMethod) -> GradientMethod:
    """Return a method given by value or by name.

    Raises
    ------
    OptionError
        Listing the names that exist.

    Examples
    --------
    >>> get_gradient_method("discrete")
    DiscreteAdjoint()
    """
    if isinstance(method, str):
        for known in (*METHODS, *JUDGES):
            if method.lower() in (known.name, type(known).__name__.lower()):
                return known
        names = ["auto", *(known.name for known in (*METHODS, *JUDGES))]
        raise OptionError(
            f"There is no gradient method {method!r}{did_you_mean(method, names)}. Choose one of "
            f"{', '.join(names)}."
        )
    if isinstance(method, type) and any(isinstance(known, method) for known in (*METHODS, *JUDGES)):
        raise OptionError(
            f"method={method.__name__} is a class; add (): method={method.__name__}()."
        )
    if isinstance(method, GradientMethod) and not isinstance(method, type):
        return method
    raise OptionError(
        f"method must be a name or a gradient method such as DiscreteAdjoint(); got {method!r}."
    )


__all__ = [
    "JUDGES",
    "METHODS",
    "BacksolveAdjoint",
    "CheckpointedAdjoint",
    "ComplexStep",
    "DiscreteAdjoint",
    "FiniteDifference",
    "ForwardSensitivity",
    "GaussAdjoint",
    "GradientMethod",
    "InterpolatingAdjoint",
    "get_gradient_method",
]
