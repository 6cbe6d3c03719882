"""Values by position or by name: every array a user gives or gets knows its entries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from symode.errors import InitialStateError, SymodeError, UnknownNameError

if TYPE_CHECKING:
    from symode.equations.equations import Equations

Floats = NDArray[np.float64]


class Named(np.ndarray[Any, np.dtype[np.float64]]):
    """An array whose last axis has names; also indexed by name or symbol.

    Examples
    --------
    >>> import numpy as np
    >>> g = named(np.array([1.0, 2.0]), ["a", "b"])
    >>> float(g["b"]), float(g[0])
    (2.0, 1.0)
    """

    names: tuple[str, ...]

    def __array_finalize__(self, obj: Any) -> None:
        """Carry the names over to views."""
        self.names = getattr(obj, "names", ())

    def __getitem__(self, key: Any) -> Any:
        """Return entries by position, slice, name or symbol."""
        if isinstance(key, str) or (hasattr(key, "is_Symbol") and key.is_Symbol):
            if str(key) not in self.names:
                close = get_close_matches(str(key), self.names, 1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                raise UnknownNameError(f"{key} is none of {', '.join(self.names)}{hint}.")
            key = (..., self.names.index(str(key)))
        result = np.asarray(self)[key]
        return float(result) if np.ndim(result) == 0 else result

    def as_dict(self) -> dict[str, float]:
        """Return name to value."""
        return {name: float(self[name]) for name in self.names}

    def __repr__(self) -> str:
        """Return names and values."""
        if self.ndim == 1 and len(self.names) == self.size:
            return ", ".join(f"{n}={float(v):.8g}" for n, v in self.as_dict().items())
        return repr(np.asarray(self))

    def __reduce__(self) -> Any:
        """Pickle values and names."""
        return (named, (np.asarray(self), self.names))


def is_finite_number(value: Any) -> bool:
    """Tell whether a value is one finite real number; text and truth values are none.

    Examples
    --------
    >>> is_finite_number(2), is_finite_number("2"), is_finite_number(float("nan"))
    (True, False, False)
    """
    try:
        return not isinstance(value, str | bool) and bool(np.isfinite(float(value)))
    except (TypeError, ValueError):
        return False


def real_array(values: Any) -> Floats:
    """Return values as a new float array, or raise where NumPy would leave something out.

    Raises
    ------
    TypeError, ValueError
        For complex numbers, dates, masked entries, and what is no number.

    Examples
    --------
    >>> real_array([1, 2.5]).tolist()
    [1.0, 2.5]
    >>> real_array([1 + 2j])
    Traceback (most recent call last):
    TypeError: complex numbers
    """
    if np.ma.is_masked(values):
        raise TypeError("masked values")
    kind = np.asarray(values).dtype.kind
    if kind in "cmM":
        raise TypeError("complex numbers" if kind == "c" else "dates")
    return np.array(values, dtype=float)


def by_label(values: Any) -> Any:
    """Return a pandas Series whose labels are texts or symbols as a dict; all else as it is.

    Examples
    --------
    >>> import pandas as pd
    >>> by_label(pd.Series([1.0, 2.0], index=["b", "a"]))
    {'b': 1.0, 'a': 2.0}
    """
    labels = getattr(values, "index", None)
    if labels is None or callable(labels) or not hasattr(values, "to_dict"):
        return values
    labels = list(labels)
    texts = [type(label).__name__ == "Symbol" or isinstance(label, str) for label in labels]
    if not labels or not all(texts) or np.ndim(values) != 1:
        return values
    return dict(zip(labels, np.asarray(values).tolist(), strict=True))


def named(values: Any, names: Sequence[str]) -> Named:
    """Return values as an array that knows the names of its last axis."""
    result = np.asarray(values, dtype=float).view(Named)
    result.names = tuple(names)
    return result


def initial_vector(equations: Equations, z0: Any, *, batch: bool = False) -> Floats:
    """Return initial values in order; what waits for delayed events may be left out, and is 0.

    Raises
    ------
    InitialStateError
        As `vector`.
    """
    names, count = equations.state_names, equations.n_waiting
    if count and isinstance(z0, Mapping):
        z0 = {**dict.fromkeys(names[-count:], 0.0), **{str(key): v for key, v in z0.items()}}
    elif count and z0 is not None and np.shape(z0)[-1:] == (len(names) - count,):
        zeros = [(0, 0)] * (np.ndim(z0) - 1)
        z0 = np.pad(np.asarray(z0, dtype=float), [*zeros, (0, count)])
    return vector(z0, names, "initial values", InitialStateError, batch=batch)


def vector(
    values: Any, names: Sequence[str], what: str, error: type[SymodeError], *, batch: bool = False
) -> Floats:
    """Return values, given in order or by name, as a float array in the order of names.

    Parameters
    ----------
    values
        A mapping of names or symbols to numbers, or numbers in order. With ``batch`` also one row
        per member, shape ``(members, len(names))``.
    names
        Expected names, in order. A pandas Series with labels is read by them, like a dict.
    what
        What they are, for messages: "parameters", "initial values".
    error
        Class of the error raised.

    Raises
    ------
    SymodeError
        Of the class ``error``: names missing or unknown, a wrong shape, or values not finite.

    Examples
    --------
    >>> from symode.errors import ParameterError
    >>> vector({"b": 2, "a": 1}, ["a", "b"], "parameters", ParameterError).tolist()
    [1.0, 2.0]
    """
    if values is None:
        raise error(f"No {what} were given; expected {', '.join(names)}.")
    values = by_label(values)
    if isinstance(values, Mapping):
        given = {str(key): value for key, value in values.items()}
        if len(given) < len(values):
            keys = [str(key) for key in values]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            raise error(f"The {what} give {', '.join(twice)} twice; each once.")
        expected = set(names)
        missing = [name for name in names if name not in given]
        unknown = [name for name in given if name not in expected]
        if missing or unknown:
            parts = []
            if missing:
                parts.append(f"missing: {', '.join(missing)}")
            for name in unknown:
                close = get_close_matches(name, names, 1)
                hint = f" (did you mean {close[0]}?)" if close else ""
                parts.append(f"unknown: {name}{hint}")
            raise error(
                f"The {what} do not match the model; {'; '.join(parts)}. "
                f"Expected {', '.join(names) or 'none'}."
            )
        values = [given[name] for name in names]
    try:
        array = real_array(values)
    except (TypeError, ValueError):
        raise error(f"The {what} must be real numbers; got {values!r}.") from None
    if array.ndim == 0 and len(names) == 1:
        array = array.reshape(1)
    if array.ndim != 1 + (batch and array.ndim == 2) or array.shape[-1] != len(names):
        shape = f"shape {array.shape}" if array.ndim != 1 else f"{array.size} values"
        raise error(
            f"The {what} have {shape}, but the model has {len(names)} "
            f"({', '.join(names)}). Pass one value for each, in that order, or a dict."
        )
    if not np.isfinite(array).all():
        where = np.flatnonzero(~np.isfinite(array.reshape(-1, len(names))).all(axis=0))
        raise error(f"The {what} must be finite; {', '.join(names[int(i)] for i in where)} is not.")
    return array
