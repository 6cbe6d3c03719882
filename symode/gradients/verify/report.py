"""What a verification found: one check per question, and a report that prints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Evidence = Literal["accuracy", "consistency"]

#: What each kind of evidence can and cannot show.
MEANING: Final[dict[str, str]] = {
    "accuracy": "bears on the distance to the gradient of the true J",
    "consistency": "the code differentiates what it computes; says nothing of truncation errors",
}


def digits_of(error: float) -> float:
    """Return the correct decimal digits of a relative error, at most 16.

    Examples
    --------
    >>> digits_of(1e-8), digits_of(0.0), digits_of(float("nan"))
    (8.0, 16.0, 0.0)
    """
    if not error < 1.0:
        return 0.0
    return min(16.0, -math.log10(error)) if error > 0.0 else 16.0


@dataclass(frozen=True)
class Check:
    """The answer to one question.

    Parameters
    ----------
    name
        Short name: "taylor", "ends", "dot product", "methods", "tolerances".
    passed
        The verdict.
    digits
        Decimal digits of agreement.
    evidence
        "accuracy", or "consistency" where agreement shows only that the code differentiates
        what it computes.
    summary
        What was compared, and how it went.
    details
        One line for each thing compared.
    """

    name: str
    passed: bool
    digits: float
    evidence: Evidence
    summary: str
    details: tuple[str, ...] = ()

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        lines = [f"{verdict}  {self.name:<12} {self.digits:5.1f} digits  {self.summary}"]
        return "\n".join([*lines, *(f"{'':19}{line}" for line in self.details)])


@dataclass(frozen=True, repr=False)
class Report:
    """Outcome of `symode.verify`: prints as text, with a verdict and digits for each test.

    Parameters
    ----------
    title
        What was verified.
    value
        J.
    tests
        The checks, in the order they ran. Also found by name: ``report["taylor"]``.

    Examples
    --------
    >>> report = Report("x", 1.0, (Check("taylor", True, 12.0, "consistency", "slope 2.00"),))
    >>> report.passed, report["taylor"].digits
    (True, 12.0)
    """

    title: str
    value: float
    tests: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return bool(self.tests) and all(check.passed for check in self.tests)

    @property
    def digits(self) -> dict[str, float]:
        """Digits of agreement by the name of the test."""
        return {check.name: check.digits for check in self.tests}

    def __iter__(self) -> Iterator[Check]:
        return iter(self.tests)

    def __getitem__(self, name: str) -> Check:
        """Return a test by name."""
        for check in self.tests:
            if check.name == name:
                return check
        raise KeyError(f"{name!r} is none of {', '.join(check.name for check in self.tests)}")

    def __str__(self) -> str:
        lines = [self.title, ""]
        for kind, meaning in MEANING.items():
            checks = [check for check in self.tests if check.evidence == kind]
            if checks:
                lines += [f"{kind.capitalize()} ({meaning}):", *map(str, checks), ""]
        failed = [check.name for check in self.tests if not check.passed]
        lines.append(f"Verdict: FAILED ({', '.join(failed)})." if failed else "Verdict: passed.")
        return "\n".join(lines)

    __repr__ = __str__
