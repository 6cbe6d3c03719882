"""symode: exact, fast gradients of ODE models written in SymPy.

Names are loaded when first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

#: Where each public name lives.
_HOME = {
    "Model": "symode.interface.model",
    "reactions": "symode.interface.reactions",
    "Equations": "symode.equations.equations",
    "Event": "symode.equations.event",
    "Table": "symode.equations.table",
    "Loss": "symode.equations.loss",
    "LeastSquares": "symode.equations.loss",
    "Composite": "symode.equations.composite",
    "ObservationGroup": "symode.equations.loss",
    "VectorLoss": "symode.equations.vector_loss",
    "Solution": "symode.solvers.solution",
    "Gradient": "symode.gradients.value_and_grad",
    "ValueAndGrad": "symode.gradients.value_and_grad",
    "Hessian": "symode.gradients.second_order",
    "Jacobian": "symode.gradients.jacobian",
    "SteadyState": "symode.gradients.steady",
    "BacksolveAdjoint": "symode.gradients.methods",
    "CheckpointedAdjoint": "symode.gradients.methods",
    "ComplexStep": "symode.gradients.methods",
    "FiniteDifference": "symode.gradients.methods",
    "GaussAdjoint": "symode.gradients.methods",
    "InterpolatingAdjoint": "symode.gradients.methods",
    "DiscreteAdjoint": "symode.gradients.methods",
    "ForwardSensitivity": "symode.gradients.methods",
    "verify": "symode.gradients.verify",
    "Data": "symode.problems.data",
    "Problem": "symode.problems.problem",
    "Normal": "symode.problems.noise",
    "LogNormal": "symode.problems.noise",
    "Log10Normal": "symode.problems.noise",
    "Laplace": "symode.problems.tails",
    "StudentT": "symode.problems.tails",
    "Poisson": "symode.problems.counts",
    "NegativeBinomial": "symode.problems.counts",
    "Condition": "symode.problems.conditions",
    "NormalPrior": "symode.problems.priors",
    "CauchyPrior": "symode.problems.densities",
    "ExponentialPrior": "symode.problems.densities",
    "GammaPrior": "symode.problems.densities",
    "RayleighPrior": "symode.problems.densities",
    "TruncatedPrior": "symode.problems.densities",
    "LaplacePrior": "symode.problems.priors",
    "UniformPrior": "symode.problems.priors",
    "Logit": "symode.problems.transforms",
    "Softplus": "symode.problems.transforms",
    "Affine": "symode.problems.transforms",
    "fit": "symode.problems.fit",
    "LogDensity": "symode.problems.log_density",
    "sample": "symode.bridges.nuts",
    "to_pymc": "symode.bridges.pytensor",
    "to_jax": "symode.bridges.jax",
    "read_antimony": "symode.bridges.antimony",
    "write_antimony": "symode.bridges.antimony",
    "read_sbml": "symode.bridges.sbml",
    "write_sbml": "symode.bridges.sbml",
    "SbmlModel": "symode.bridges.sbml",
    "read_petab": "symode.bridges.petab",
    "write_petab": "symode.bridges.petab",
    "PetabProblem": "symode.bridges.petab",
    "ImportFileError": "symode.errors",
    "Fit": "symode.problems.result",
    "Profile": "symode.problems.profiles",
    "LocalSensitivity": "symode.problems.sensitivity",
    "local_sensitivity": "symode.problems.sensitivity",
    "GlobalSensitivity": "symode.problems.global_sensitivity",
    "global_sensitivity": "symode.problems.global_sensitivity",
    "Band": "symode.problems.bands",
    "Bootstrap": "symode.problems.bootstrap",
    "Identifiability": "symode.problems.identifiability",
    "Intervals": "symode.problems.intervals",
    "SymodeError": "symode.errors",
    "SolverError": "symode.errors",
    "GradientError": "symode.errors",
    "DataError": "symode.errors",
    "FitError": "symode.errors",
    "DriftError": "symode.errors",
    "ModelError": "symode.errors",
    "StoreError": "symode.errors",
}

__all__ = [
    "Affine",
    "BacksolveAdjoint",
    "Band",
    "Bootstrap",
    "CauchyPrior",
    "CheckpointedAdjoint",
    "ComplexStep",
    "Composite",
    "Condition",
    "Data",
    "DataError",
    "DiscreteAdjoint",
    "DriftError",
    "Equations",
    "Event",
    "ExponentialPrior",
    "FiniteDifference",
    "Fit",
    "FitError",
    "ForwardSensitivity",
    "GammaPrior",
    "GaussAdjoint",
    "GlobalSensitivity",
    "Gradient",
    "GradientError",
    "Hessian",
    "Identifiability",
    "ImportFileError",
    "InterpolatingAdjoint",
    "Intervals",
    "Jacobian",
    "Laplace",
    "LaplacePrior",
    "LeastSquares",
    "LocalSensitivity",
    "Log10Normal",
    "LogDensity",
    "LogNormal",
    "Logit",
    "Loss",
    "Model",
    "ModelError",
    "NegativeBinomial",
    "Normal",
    "NormalPrior",
    "ObservationGroup",
    "PetabProblem",
    "Poisson",
    "Problem",
    "Profile",
    "RayleighPrior",
    "SbmlModel",
    "Softplus",
    "Solution",
    "SolverError",
    "SteadyState",
    "StoreError",
    "StudentT",
    "SymodeError",
    "Table",
    "TruncatedPrior",
    "UniformPrior",
    "ValueAndGrad",
    "VectorLoss",
    "fit",
    "global_sensitivity",
    "local_sensitivity",
    "reactions",
    "read_antimony",
    "read_petab",
    "read_sbml",
    "sample",
    "to_jax",
    "to_pymc",
    "verify",
    "write_antimony",
    "write_petab",
    "write_sbml",
]

if TYPE_CHECKING:
    from symode.bridges.antimony import read_antimony, write_antimony
    from symode.bridges.jax import to_jax
    from symode.bridges.nuts import sample
    from symode.bridges.petab import PetabProblem, read_petab, write_petab
    from symode.bridges.pytensor import to_pymc
    from symode.bridges.sbml import SbmlModel, read_sbml, write_sbml
    from symode.equations.composite import Composite
    from symode.equations.equations import Equations
    from symode.equations.event import Event
    from symode.equations.loss import LeastSquares, Loss, ObservationGroup
    from symode.equations.table import Table
    from symode.equations.vector_loss import VectorLoss
    from symode.errors import (
        DataError,
        DriftError,
        FitError,
        GradientError,
        ImportFileError,
        ModelError,
        SolverError,
        StoreError,
        SymodeError,
    )
    from symode.gradients.jacobian import Jacobian
    from symode.gradients.methods import (
        BacksolveAdjoint,
        CheckpointedAdjoint,
        ComplexStep,
        DiscreteAdjoint,
        FiniteDifference,
        ForwardSensitivity,
        GaussAdjoint,
        InterpolatingAdjoint,
    )
    from symode.gradients.second_order import Hessian
    from symode.gradients.steady import SteadyState
    from symode.gradients.value_and_grad import Gradient, ValueAndGrad
    from symode.gradients.verify import verify
    from symode.interface.model import Model
    from symode.interface.reactions import reactions
    from symode.problems.bands import Band
    from symode.problems.bootstrap import Bootstrap
    from symode.problems.conditions import Condition
    from symode.problems.counts import NegativeBinomial, Poisson
    from symode.problems.data import Data
    from symode.problems.densities import (
        CauchyPrior,
        ExponentialPrior,
        GammaPrior,
        RayleighPrior,
        TruncatedPrior,
    )
    from symode.problems.fit import fit
    from symode.problems.global_sensitivity import GlobalSensitivity, global_sensitivity
    from symode.problems.identifiability import Identifiability
    from symode.problems.intervals import Intervals
    from symode.problems.log_density import LogDensity
    from symode.problems.noise import Log10Normal, LogNormal, Normal
    from symode.problems.priors import LaplacePrior, NormalPrior, UniformPrior
    from symode.problems.problem import Problem
    from symode.problems.profiles import Profile
    from symode.problems.result import Fit
    from symode.problems.sensitivity import LocalSensitivity, local_sensitivity
    from symode.problems.tails import Laplace, StudentT
    from symode.problems.transforms import Affine, Logit, Softplus
    from symode.solvers.solution import Solution


def __getattr__(name: str) -> Any:
    """Load a public name from its home on first use."""
    if name not in _HOME:
        raise AttributeError(f"module 'symode' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*__all__, "__version__"])
