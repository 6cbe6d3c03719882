"""Checks of equations: all faults found at once, each named in the user's symbols."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from symode.equations.equations import Equations

from symode.errors import ModelError


def find_faults(
    states: Sequence[object],
    rhs: Sequence[object],
    parameters: Sequence[object],
    time: object,
    initial: Sequence[object] | None = None,
    observables: Sequence[object] = (),
) -> list[str]:
    """Return every fault."""
    return []


def refuse(faults: Sequence[str]) -> None:
    """Raise a `ModelError` that lists the faults, or return when there are none."""
    if faults:
        raise ModelError("\n".join(faults), faults)


def check_equations(equations: Equations) -> None:
    """Placeholder while the full checks are written in this same file."""
