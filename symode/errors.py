"""The error tree: every exception derives from `SymodeError` and from the builtin it refines."""

from __future__ import annotations

from collections.abc import Sequence


class SymodeError(Exception):
    """Base of all errors raised on purpose by symode."""


class ModelError(SymodeError, ValueError):
    """The equations do not form a model; `faults` lists everything found, one sentence each."""

    def __init__(self, message: str, faults: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


class ParseError(ModelError):
    """Text could not be read by the grammar of `Model.from_text`."""


class UnsupportedFunctionError(ModelError):
    """An expression holds a function for which no kernel exists; the message names it."""


class LossError(SymodeError, ValueError):
    """A loss does not fit the model or the time span it is used with."""


class ParameterError(SymodeError, ValueError):
    """Parameter values are missing, unknown, of the wrong shape, or not finite."""


class InitialStateError(SymodeError, ValueError):
    """Initial values are missing, unknown, of the wrong shape, or not finite."""


class OptionError(SymodeError, ValueError):
    """A solver or method option is not one of those that exist."""


class UnknownNameError(OptionError, KeyError):
    """There is no entry of that name; the message lists those that exist."""

    # A KeyError shows its message in quotes.
    __str__ = Exception.__str__


class DataError(SymodeError, ValueError):
    """Measured data are malformed; the message names the row and column."""


class TableauError(SymodeError, ValueError):
    """The coefficients of a method violate its order conditions."""


class MissingExtraError(SymodeError, ImportError):
    """An optional dependency is missing; the message names the extra that installs it."""


class SolverError(SymodeError, RuntimeError):
    """A solve failed. Carries the code, and the time, state and step size reached."""

    def __init__(
        self,
        message: str,
        *,
        status: int = 0,
        t: float = float("nan"),
        z: Sequence[float] = (),
        h: float = float("nan"),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.t = t
        self.z = tuple(z)
        self.h = h


class GradientError(SymodeError, RuntimeError):
    """A gradient could not be computed to the accuracy its method promises."""


class DriftError(GradientError):
    """The state reconstructed backwards in time left the forward solution."""


class UnsupportedCombinationError(OptionError):
    """The method cannot serve this solver, loss or argument; the message says why and what can."""


class FitError(SymodeError, RuntimeError):
    """No search of a fit came to a result; the message says why the first one failed."""


class StoreError(SymodeError, RuntimeError):
    """A file of stored results cannot be used; the message says why, and what can be done."""


class ImportFileError(SymodeError, ValueError):
    """A file from elsewhere cannot be read as a model or problem; the message names the element."""
