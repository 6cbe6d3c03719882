"""What a verification found: one check per question, and a report that prints."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from symode.gradients.verify.derivation import Derivation

Evidence = Literal["proof", "accuracy", "consistency", "stability"]

#: What each kind of evidence can and cannot show.
MEANING: Final[dict[str, str]] = {
    "proof": "the compiled products are Theorem 1's; says nothing of how they are integrated",
    "accuracy": "bears on the distance to the gradient of the true J",
    "consistency": "the code differentiates what it computes; says nothing of truncation errors",
    "stability": "how far errors grow, and which methods that rules out",
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
class Curve:
    """Remainders along one direction, for a plot: R over epsilon, both positive."""

    label: str
    epsilon: tuple[float, ...]
    remainder: tuple[float, ...]
    order: int = 2


@dataclass(frozen=True)
class Check:
    """The answer to one question.

    Parameters
    ----------
    name
        Short name: "taylor", "ends", "dot product", "methods", "tolerances", ...
    passed
        The verdict; True for a check that was left out.
    digits
        Decimal digits of agreement.
    evidence
        "proof", "accuracy", "stability", or "consistency" where agreement shows only that the code
        differentiates what it computes.
    summary
        What was compared, and how it went; for a check that was left out, why.
    details
        One line for each thing compared.
    skipped
        Whether the check could not be made here.
    curves
        Remainders to plot.

    Examples
    --------
    >>> print(Check("taylor", True, 12.0, "consistency", "slope 2.00"))
    pass  taylor        12.0 digits  slope 2.00
    """

    name: str
    passed: bool
    digits: float
    evidence: Evidence
    summary: str
    details: tuple[str, ...] = ()
    skipped: bool = False
    curves: tuple[Curve, ...] = ()

    @classmethod
    def skip(cls, name: str, evidence: Evidence, why: str, failed: bool = False) -> Check:
        """Return a check that was left out; failed where it was asked for."""
        return cls(name, not failed, 0.0, evidence, why, skipped=not failed)

    @property
    def verdict(self) -> str:
        """One of "pass", "FAIL" and "skip"."""
        return "skip" if self.skipped else "pass" if self.passed else "FAIL"

    @property
    def digitless(self) -> bool:
        """Whether digits say nothing: of a proof, or of what was left out."""
        return self.skipped or self.evidence == "proof"

    def __str__(self) -> str:
        digits = " " * 12 if self.digitless else f"{self.digits:5.1f} digits"
        lines = [f"{self.verdict}  {self.name:<12} {digits}  {self.summary}"]
        return "\n".join([*lines, *(f"{'':19}{line}" for line in self.details)])


@dataclass(frozen=True)
class Entry:
    """One number of a gradient and how many of its digits hold.

    Parameters
    ----------
    name
        Of the parameter, "x(t0)" for an initial value, "t0", "t1".
    value
        The derivative.
    digits
        Correct decimal digits of this entry, as far as is known.
    known_by
        What the digits rest on.
    """

    name: str
    value: float
    digits: float
    known_by: str


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
    entries
        Each derivative with its digits.
    causes
        For a failure, what is likely behind it.
    derivation
        The adjoint equations of the model and how they were proved, as LaTeX in a notebook.

    Examples
    --------
    >>> report = Report("x", 1.0, (Check("taylor", True, 12.0, "consistency", "slope 2.00"),))
    >>> report.passed, report["taylor"].digits
    (True, 12.0)
    """

    title: str
    value: float
    tests: tuple[Check, ...]
    entries: tuple[Entry, ...] = ()
    causes: tuple[str, ...] = ()
    derivation: Derivation | None = field(default=None, compare=False)

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return bool(self.tests) and all(check.passed for check in self.tests)

    @property
    def verdict(self) -> str:
        """The last line: passed, or which checks failed."""
        failed = [check.name for check in self.tests if not check.passed]
        return f"FAILED ({', '.join(failed)})" if failed else "passed"

    @property
    def digits(self) -> dict[str, float]:
        """Digits of agreement by the name of the test, of those that were made."""
        return {check.name: check.digits for check in self.tests if not check.skipped}

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
        if self.entries:
            lines += ["Digits of each derivative:"]
            width = max(len(entry.name) for entry in self.entries)
            lines += [
                f"  {e.name:<{width}}  {e.value: .12e}  {e.digits:5.1f} digits, by {e.known_by}"
                for e in self.entries
            ]
            lines.append("")
        if self.causes:
            lines += ["Likely cause:", *(f"  - {cause}" for cause in self.causes), ""]
        lines.append(f"Verdict: {self.verdict}.")
        return "\n".join(lines)

    __repr__ = __str__

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, ready for JSON: no NaN, no symbols.

        Examples
        --------
        >>> Report("x", 1.0, (Check("taylor", True, 12.0, "consistency", "ok"),)).as_dict()["value"]
        1.0
        """
        tests = [asdict(check) | {"verdict": check.verdict} for check in self.tests]
        for test in tests:
            del test["curves"]
        entries = [
            asdict(e) | {"value": e.value if math.isfinite(e.value) else None} for e in self.entries
        ]
        return {
            "title": self.title,
            "value": self.value if math.isfinite(self.value) else None,
            "passed": self.passed,
            "verdict": self.verdict,
            "tests": tests,
            "entries": entries,
            "causes": list(self.causes),
        }

    def html(self) -> str:
        """Return the report as a page of its own: no script, no style, no picture from outside."""
        from symode.gradients.verify.html import page

        return page(self)

    def save(self, path: str | Path) -> None:
        """Write the report as a self-contained HTML page."""
        Path(path).write_text(self.html(), encoding="utf-8")
