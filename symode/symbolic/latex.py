"""Models and adjoint systems as LaTeX."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

from symode.equations.describe import brief
from symode.equations.equations import Equations
from symode.equations.walk import symbols_in
from symode.errors import ModelError


def model_latex(equations: Equations) -> str:
    r"""Return the equations, initial values and observables as an ``aligned`` environment.

    Raises
    ------
    ModelError
        When an expression is nested too deeply for SymPy to print.

    Examples
    --------
    >>> import sympy as sp
    >>> x, k, t = sp.symbols("x k t")
    >>> print(model_latex(Equations((x,), (-k * x,), (k,), t, initial=(sp.Integer(2),))))
    \begin{aligned}
    \frac{d x}{d t} &= - k x \\
    x(t_{0}) &= 2
    \end{aligned}
    """
    lines = [(left, latex(f)) for left, f in zip(rates(equations), equations.rhs, strict=True)]
    lines += [
        (f"{latex(state)}({latex(equations.time)}_{{0}})", latex(value))
        for state, value in zip(equations.states, equations.initial or (), strict=False)
    ]
    lines += [(words(name), latex(expression)) for name, expression in equations.observables]
    return aligned(lines)


def aligned(lines: Iterable[tuple[str, str]]) -> str:
    r"""Return pairs (left side, right side) as an ``aligned`` environment.

    Examples
    --------
    >>> print(aligned([("x", "1"), ("y", "2")]))
    \begin{aligned}
    x &= 1 \\
    y &= 2
    \end{aligned}
    """
    body = " \\\\\n".join(f"{left} &= {right}" for left, right in lines)
    return f"\\begin{{aligned}}\n{body}\n\\end{{aligned}}"


def rate(symbol: sp.Symbol, time: sp.Symbol) -> str:
    r"""Return the time derivative of a symbol.

    Examples
    --------
    >>> import sympy as sp
    >>> rate(sp.Symbol("x"), sp.Symbol("t"))
    '\\frac{d x}{d t}'
    """
    return rf"\frac{{d {latex(symbol)}}}{{d {latex(time)}}}"


def rates(equations: Equations) -> list[str]:
    r"""Return the left side of each equation: dz/dt, a row of M dz/dt, or 0.

    Examples
    --------
    >>> import sympy as sp
    >>> x, y, t = sp.symbols("x y t")
    >>> mass = ((0, 0, sp.Integer(2)), (0, 1, sp.Integer(-1)))
    >>> rates(Equations((x, y), (-x, x - y), (), t, mass=mass))
    ['2 \\frac{d x}{d t} - \\frac{d y}{d t}', '0']
    """
    slopes = [rate(state, equations.time) for state in equations.states]
    if equations.mass is None:
        return slopes
    sides = [""] * len(slopes)
    for i, j, value in equations.mass:
        sign = "-" if value.is_negative else "+"
        factor = "" if abs(value) == 1 else f"{latex(abs(value))} "
        if sides[i]:
            sides[i] += f" {sign} {factor}{slopes[j]}"
        else:
            sides[i] = f"{'- ' if value.is_negative else ''}{factor}{slopes[j]}"
    return [side or "0" for side in sides]


def words(name: str) -> str:
    r"""Return a name as upright text.

    Examples
    --------
    >>> words("prey_1")
    '\\text{prey\\_1}'
    """
    escapes = {mark: f"\\{mark}" for mark in "_%&#${}"}
    escapes |= {"\\": r"\backslash{}", "^": r"\^{}", "~": r"\~{}"}
    return rf"\text{{{''.join(escapes.get(mark, mark) for mark in name)}}}"


def latex(expression: sp.Basic) -> str:
    r"""Return an expression as LaTeX, or say that it is too deep for SymPy's printer.

    Examples
    --------
    >>> import sympy as sp
    >>> latex(sp.sqrt(sp.Symbol("x")))
    '\\sqrt{x}'
    """
    try:
        # A thin space between factors where names of several letters would run together.
        names = [sp.latex(symbol).partition("_")[0] for symbol in symbols_in([expression])]
        wordy = any(len(name) > 1 and name.isalnum() for name in names)
        return str(sp.latex(expression, mul_symbol=r"\," if wordy else None))
    except RecursionError:
        raise ModelError(
            f"{brief(expression)} is nested too deeply for SymPy to print. Split it with further "
            "symbols to see it as LaTeX."
        ) from None


def display(text: str) -> str:
    r"""Return LaTeX as a notebook shows it.

    Examples
    --------
    >>> display("x")
    '$\\displaystyle x$'
    """
    return rf"$\displaystyle {text}$"
