"""How many digits of each derivative hold: entry by entry, by the best evidence there is."""

from __future__ import annotations

import numpy as np

from symode.errors import SymodeError
from symode.gradients.verify.claims import names_of, whole
from symode.gradients.verify.report import Entry, digits_of
from symode.gradients.verify.subject import Subject

#: An entry smaller than this share of the gradient's norm, in scaled variables, counts as 0.
NOTHING = 1e-12


def entries_of(subject: Subject) -> tuple[Entry, ...]:
    """Return every derivative in (theta, z0, t0, t1) with its own digits.

    They are those of the reference's 30 where it is known, else of a second run at a tolerance 100
    times tighter (or looser: then the digits are those of the looser run).
    """
    own = whole(subject.outcome(subject.method, subject.task))
    found = subject.reference
    if isinstance(found, str):
        try:
            true = whole(subject.outcome(subject.method, subject.second))
        except SymodeError:
            return ()
        by = f"a run at rtol {subject.second.options.rtol:.0e}"
    else:
        true = np.array([float(v) for v in (*found.theta, *found.z0, found.t0, found.t1)])
        by = f"{found.digits:.0f} digits of Taylor series"
    span = abs(subject.task.t1 - subject.task.t0)
    scale = np.concatenate([subject.scale, [span, span]])
    nothing = max(NOTHING * float(np.linalg.norm(true * scale)), subject.floor)
    sizes = np.maximum(np.abs(true) * scale, nothing)
    errors = np.abs(own - true) * scale / np.where(sizes == 0.0, 1.0, sizes)
    names = names_of(subject.task.equations)
    return tuple(
        Entry(name, float(value), digits_of(float(error)), by)
        for name, value, error in zip(names, own, errors, strict=True)
    )
