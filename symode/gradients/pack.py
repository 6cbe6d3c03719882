"""Layout: what a gradient is taken with respect to, and its place in one flat vector."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.equations.equations import Equations
from symode.equations.values import Named, named, vector
from symode.errors import InitialStateError, OptionError, ParameterError, SymodeError
from symode.gradients.task import Asked
from symode.solvers.methods import did_you_mean

Floats = NDArray[np.float64]
Ints = NDArray[np.intp]

#: What a gradient can be taken with respect to, besides single parameters and states by name.
ARGUMENTS = ("theta", "z0", "t0", "t1", "times")


@dataclass(frozen=True, eq=False)
class Part:
    """A run of entries of one kind.

    Parameters
    ----------
    kind
        One of `ARGUMENTS`.
    places
        Which parameters, states or observations, in this order.
    at
        Where they stand in the flat vector.
    among
        Where they stand among all entries of their kind.
    whole
        Whether these are all of their kind, in the model's order.
    """

    kind: str
    places: Ints
    at: slice
    among: slice
    whole: bool


class Layout:
    """The order of a flat vector: parameters, initial values and times, as asked for.

    Parameters
    ----------
    equations
        Gives the names.
    wrt
        Any of ``"theta"``, ``"z0"``, ``"t0"``, ``"t1"``, ``"times"``; the name or symbol of a
        parameter, or of a state for its initial value. These five words mean the groups; a
        parameter of such a name is meant by its symbol.
    n_times
        Number of the loss's observations.
    free_times
        Places, in the order of the loss, of those that are attached to neither end.

    Raises
    ------
    OptionError
        For a name that is unknown, or asked for twice.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y, a, b, c = sp.symbols("x y a b c")
    >>> decay = Equations((x, y), (-a * x, b * x - c * y), (a, b, c), sp.Symbol("t"))
    >>> layout = Layout(decay, ("c", "y", "a", "t1"))
    >>> layout.names
    ('c', 'y(t0)', 'a', 't1')
    >>> layout.asked
    Asked(theta=(2, 0), z0=(1,), t0=False)
    """

    def __init__(
        self,
        equations: Equations,
        wrt: Any,
        n_times: int = 0,
        free_times: Sequence[int] = (),
    ) -> None:
        self.equations = equations
        self.n_times = n_times
        single = isinstance(wrt, str) or hasattr(wrt, "is_Symbol")
        if isinstance(wrt, set | frozenset) or not (single or isinstance(wrt, Iterable)):
            no_order = ", a set, which has no order" if isinstance(wrt, set | frozenset) else ""
            raise OptionError(
                f"wrt is {wrt!r}{no_order}. It must be a name, or a list or tuple of names: "
                f"{', '.join(ARGUMENTS)}, parameters ({', '.join(equations.parameter_names)}) and "
                f"states, for their initial values ({', '.join(equations.state_names)})."
            )
        entries: tuple[Any, ...] = (wrt,) if single else tuple(wrt)
        self.wrt = tuple(str(entry) for entry in entries)
        self._sizes = {
            "theta": equations.n_parameters,
            "z0": equations.n_states,
            "t0": 1,
            "t1": 1,
            "times": n_times,
        }
        runs: list[tuple[str, list[int]]] = []
        for entry in entries:
            kind, places = self._read(entry, free_times)
            if runs and runs[-1][0] == kind:
                runs[-1][1].extend(places)
            else:
                runs.append((kind, places))
        self._check(entries, runs)
        self.parts = tuple(self._parts(runs))
        self.size = sum(part.places.size for part in self.parts)

    def _read(self, entry: Any, free_times: Sequence[int]) -> tuple[str, list[int]]:
        """Return kind and places of one entry of wrt."""
        eq, name = self.equations, str(entry)
        if isinstance(entry, str) and entry in ARGUMENTS:
            if entry == "times":
                return entry, list(free_times)
            return entry, list(range(self._sizes[entry]))
        if name in eq.parameter_names:
            return "theta", [eq.parameter_names.index(name)]
        if name in eq.state_names:
            return "z0", [eq.state_names.index(name)]
        known = [*ARGUMENTS, *eq.parameter_names, *eq.state_names]
        raise OptionError(
            f"wrt holds {entry!r}{did_you_mean(name, known)}. It must hold some of "
            f"{', '.join(ARGUMENTS)}, or names of parameters ({', '.join(eq.parameter_names)}) "
            f"and of states, for their initial values ({', '.join(eq.state_names)}); each once."
        )

    def _check(self, entries: Sequence[Any], runs: Sequence[tuple[str, list[int]]]) -> None:
        found: set[tuple[str, int]] = set()
        for kind, places in runs:
            for place in places:
                if (kind, place) in found:
                    raise OptionError(
                        f"wrt asks for {self._name(kind, place)} twice; each once: {self.wrt}."
                    )
                found.add((kind, place))
        if not entries:
            raise OptionError(f"wrt is empty: it must hold some of {', '.join(ARGUMENTS)}.")

    def _parts(self, runs: Sequence[tuple[str, list[int]]]) -> list[Part]:
        parts, at = [], 0
        among = dict.fromkeys(ARGUMENTS, 0)
        for kind, places in runs:
            first, count = among[kind], len(places)
            whole = places == list(range(self._sizes[kind]))
            parts.append(
                Part(
                    kind,
                    np.array(places, dtype=np.intp),
                    slice(at, at + count),
                    slice(first, first + count),
                    whole,
                )
            )
            at += count
            among[kind] = first + count
        return parts

    def places(self, kind: str) -> tuple[int, ...]:
        """Return which entries of one kind are asked for, in the order asked."""
        return tuple(int(i) for p in self.parts if p.kind == kind for i in p.places)

    @cached_property
    def asked(self) -> Asked:
        """What methods need to know."""
        t0, t1, times = (bool(self.places(kind)) for kind in ("t0", "t1", "times"))
        return Asked(self.places("theta"), self.places("z0"), t0, t1 or times)

    @property
    def has_whole_z0(self) -> bool:
        """Whether all initial values stand together, in order: then they may be a batch."""
        return any(part.kind == "z0" and part.whole for part in self.parts)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries of the flat vector."""
        return tuple(self._name(part.kind, int(i)) for part in self.parts for i in part.places)

    def _name(self, kind: str, place: int) -> str:
        if kind == "theta":
            return self.equations.parameter_names[place]
        if kind == "z0":
            return f"{self.equations.state_names[place]}(t0)"
        return f"times[{place}]" if kind == "times" else kind

    def named(self, kind: str, values: Floats) -> Named:
        """Return values of what is asked for of theta or z0, with their names."""
        names = self.equations.parameter_names if kind == "theta" else self.equations.state_names
        return named(values, [names[i] for i in self.places(kind)])

    def values(self, kind: str, given: Any) -> Floats:
        """Return what is asked for of theta or z0, of values given for it or for all.

        Raises
        ------
        ParameterError, InitialStateError
            When they do not fit, in the model's names.
        """
        places = self.places(kind)
        names, what, error = self._kind(kind)
        asked = [names[i] for i in places]
        if given is None and not asked:
            return np.empty(0)
        if isinstance(given, Mapping):
            by_name = {str(key): value for key, value in given.items()}
            unasked = [name for name in by_name if name in names and name not in asked]
            given = {name: value for name, value in by_name.items() if name not in unasked}
        elif len(asked) < len(names) and np.shape(given) == (len(asked),):
            return vector(given, asked, what, error)
        elif given is not None:
            whole = vector(given, names, what, error, batch=kind == "z0" and self.has_whole_z0)
            return whole.ravel() if whole.ndim == 2 else whole[list(places)]
        return vector(given, asked, what, error)

    def base(self, kind: str, given: Any) -> Floats:
        """Return values of all theta or z0, of which those asked for are replaced at each call.

        Raises
        ------
        ParameterError, InitialStateError
            When a value is missing that the flat vector does not hold.
        """
        names, what, error = self._kind(kind)
        asked = {names[i] for i in self.places(kind)}
        rest = [name for name in names if name not in asked]
        if not rest:
            return np.zeros(len(names))
        if given is None:
            raise error(
                f"The {what} {', '.join(rest)} are not in wrt: pass their values in {kind}=."
            )
        if isinstance(given, Mapping):
            given = {**dict.fromkeys(asked, 0.0), **{str(k): v for k, v in given.items()}}
        return vector(given, names, what, error)

    def _kind(self, kind: str) -> tuple[tuple[str, ...], str, type[SymodeError]]:
        if kind == "theta":
            return self.equations.parameter_names, "parameters", ParameterError
        return self.equations.state_names, "initial values", InitialStateError

    def unpack(self, point: Floats) -> dict[str, Any]:
        """Return the named parts of a flat vector, whose z0 may be a batch."""
        extra = point.size - self.size
        found: dict[str, list[Floats]] = {}
        moved = 0
        for part in self.parts:
            start = part.at.start + moved
            if part.kind == "z0" and part.whole:
                moved = extra
            found.setdefault(part.kind, []).append(point[start : part.at.stop + moved])
        result: dict[str, Any] = {}
        for kind, runs in found.items():
            values = np.concatenate(runs)
            if kind == "z0" and extra:
                values = values.reshape(-1, self.equations.n_states)
            if kind in ("theta", "z0"):
                result[kind] = self.named(kind, values)
            else:
                result[kind] = values.copy() if kind == "times" else float(values[0])
        return result
