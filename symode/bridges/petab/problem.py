"""PetabProblem: a problem that speaks PEtab's tables, too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from symode.bridges.petab.cells import Columns
from symode.problems.parts import Part
from symode.problems.priors import prior_terms
from symode.problems.problem import Problem

Floats = NDArray[np.float64]


class PetabProblem(Problem):
    """A `Problem` read from PEtab; made by `read_petab`, which shows an example.

    Parameters
    ----------
    model, data, noise, **options
        As for `Problem`.
    nominal
        {parameter: value}, those that are not estimated included; NaN where the table has none.
    measurements
        The measurement table, by columns.
    rows
        {condition: {column: rows of the table}}.
    times
        When each row was measured in its condition: at its start for those at rest.
    files
        {name: content} of the files it was read from, for `write_petab`.
    parameter_files
        Which of them are parameter tables.
    """

    def __init__(
        self,
        *arguments: Any,
        nominal: Mapping[str, float],
        measurements: Columns,
        rows: Mapping[str, Mapping[str, Sequence[int]]],
        times: Floats,
        files: Mapping[str, bytes],
        parameter_files: Sequence[str],
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self.nominal, self._table = dict(nominal), measurements
        self._times, self.files = times, dict(files)
        self.parameter_files = tuple(parameter_files)
        self._rows = {name: dict(columns) for name, columns in rows.items()}
        self._given = (
            self._given[0],
            {
                **self._given[1],
                "nominal": self.nominal,
                "measurements": measurements,
                "rows": self._rows,
                "times": times,
                "files": self.files,
                "parameter_files": self.parameter_files,
            },
        )

    @cached_property
    def measurements(self) -> Any:
        """The measurement table, as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self._table)

    def point(self, theta: Mapping[str, float] | None = None) -> Floats:
        """Return the point on the scale of parameters; of the nominal ones by default."""
        return self.space.point(self.parameters(self.nominal if theta is None else theta))

    def llh(self, theta: Any = None) -> float:
        """Return the log-likelihood of the measurements, without priors."""
        outer = self.parameters(self.nominal if theta is None else theta)
        return -self.log_prior(outer) - self.value(outer)

    def log_prior(self, theta: Any = None) -> float:
        """Return the logarithm of the priors' density of the parameters; 0 without priors."""
        outer = self.parameters(self.nominal if theta is None else theta)
        return -prior_terms(self.priors, outer, np.ones(0), np.empty(0, dtype=np.intp)).value

    def chi2(self, theta: Any = None) -> float:
        """Return the sum of squared residuals, each divided by its sigma."""
        residuals = self._residuals(theta)
        return float(residuals @ residuals)

    def simulate(self, theta: Any = None) -> Any:
        """Return the measurement table with the model's values in a column ``simulation``."""
        values = np.full(self._times.size, np.nan)
        for part in self.parts:
            for name, simulated, _ in self._courses(part, theta):
                values[self._rows[part.name][name]] = simulated
        frame = self.measurements.drop(columns="measurement").copy()
        frame["simulation"] = values
        return frame

    def _residuals(self, theta: Any) -> Floats:
        found = []
        columns = {column.name: column for column in self.columns}
        for part in self.parts:
            for name, simulated, sigma in self._courses(part, theta):
                rows = self._rows[part.name][name]
                measured = self._table["measurement"][rows]
                measure = columns[name].noise.measure
                found.append((measure.scaled(measured) - measure.scaled(simulated)) / sigma)
        return np.concatenate(found)

    def _courses(self, part: Part, theta: Any) -> list[tuple[str, Floats, Floats]]:
        """Return (column, values, sigma) at the rows of a condition."""
        outer = self.parameters(self.nominal if theta is None else theta)
        rows = self._rows[part.name]
        columns = [column for column in self.columns if column.name in rows]
        times = self._times
        wanted = np.unique(np.concatenate([times[rows[c.name]] for c in columns]))
        expressions = [e for c in columns for e in (c.expression, c.sigma)]
        found = self.courses(outer, wanted, expressions, part.name)
        result = []
        for i, column in enumerate(columns):
            here = np.searchsorted(wanted, times[rows[column.name]])
            result.append((column.name, found[2 * i][here], found[2 * i + 1][here]))
        return result

    def _check_sigma(self) -> None:
        """Accept bounds of a sigma that reach 0, as PEtab does."""

    def _check_courses(self, parts: Sequence[Part]) -> None:
        """Accept conditions that are measured at the start alone, as PEtab does."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle what was given."""
        return (_rebuild, self._given)


def _rebuild(arguments: tuple[Any, ...], options: dict[str, Any]) -> PetabProblem:
    return PetabProblem(*arguments, **options)
