"""write_petab: a problem goes back to files, its estimates as nominal values."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from symode.bridges.petab.problem import PetabProblem
from symode.errors import OptionError


def write_petab(
    source: Any, folder: Any, theta: Mapping[str, float] | Any = None, *, overwrite: bool = False
) -> Path:
    """Write a problem that was read from PEtab, and return the path of its YAML file.

    All files are as they were read, but for the nominal values of estimated parameters. Numbers
    are written with all their digits: read again, the problem has the same objective there.

    Parameters
    ----------
    source
        A `PetabProblem`, or a fit of one.
    folder
        Made where there is none.
    theta
        Values of the parameters, by name or in order; those of the fit by default, or the nominal
        ones of a problem.
    overwrite
        Whether files that are there already may be replaced.

    Raises
    ------
    OptionError
        When the problem was not read from PEtab, or a file is there already.

    Examples
    --------
    >>> write_petab("problem.yaml", "elsewhere")
    Traceback (most recent call last):
    symode.errors.OptionError: write_petab() takes a problem made by read_petab, or a fit of one; \
got a str.
    """
    problem = getattr(source, "problem", source)
    if not isinstance(problem, PetabProblem):
        raise OptionError(
            "write_petab() takes a problem made by read_petab, or a fit of one; got a "
            f"{type(problem).__name__}."
        )
    if theta is None:
        theta = problem.nominal if source is problem else source.theta
    values = dict(zip(problem.space.parameters, problem.parameters(theta), strict=True))
    estimated = {name: float(values[name]) for name in problem.space.names}
    target = Path(folder)
    found = {}
    for name, content in problem.files.items():
        path = target / name
        if path.exists() and not overwrite:
            raise OptionError(
                f"{path} is there already: write to another folder, or pass overwrite=True."
            )
        found[path] = (
            with_nominal(content, estimated) if name in problem.parameter_files else content
        )
    for path, content in found.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return target / next(iter(problem.files))


def with_nominal(table: bytes, values: Mapping[str, float]) -> bytes:
    r"""Return a parameter table with other nominal values; all other cells stay.

    Examples
    --------
    >>> with_nominal(b"parameterId\testimate\nk\ttrue\nm\tfalse\n", {"k": 0.1})
    b'parameterId\testimate\tnominalValue\nk\ttrue\t0.1\nm\tfalse\t\n'
    """
    text = table.decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))
    head = [cell.strip() for cell in rows[0]]
    if "nominalValue" not in head:
        rows[0] = [*rows[0], "nominalValue"]
        head.append("nominalValue")
    key, place = head.index("parameterId"), head.index("nominalValue")
    for row in rows[1:]:
        if not any(cell.strip() for cell in row):
            continue
        row += [""] * (len(head) - len(row))
        value = values.get(row[key].strip())
        if value is not None:
            row[place] = repr(value)
    stream = io.StringIO(newline="")
    end = "\r\n" if "\r\n" in text else "\n"
    csv.writer(stream, delimiter="\t", lineterminator=end).writerows(rows)
    return stream.getvalue().encode()
