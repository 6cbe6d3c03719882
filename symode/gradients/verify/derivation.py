r"""The derivation of a gradient as a person reads it: the theorem, in the model's own symbols.

Notation and signs are those of P. Khungurn, *Neural Ordinary Differential Equations* (2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from symode.errors import ModelError
from symode.gradients.verify.proof import POINTS, Statement
from symode.symbolic import blocks
from symode.symbolic.adjoint_system import AdjointSystem
from symode.symbolic.differentiate import gradient
from symode.symbolic.latex import aligned, latex, model_latex, rate

#: States and parameters up to which whole matrices are shown.
SHOWN = 12


@dataclass(frozen=True, eq=False)
class Derivation:
    r"""The adjoint equations of a model and a loss, step by step.

    Parameters
    ----------
    system
        The adjoint system.
    statements
        What was proved of the compiled products, and how.

    Examples
    --------
    >>> import sympy as sp, symode
    >>> x, k = sp.symbols("x k")
    >>> model = symode.Model({x: -k * x}, parameters=[k], initial={x: 2})
    >>> report = symode.verify(model, symode.Loss(terminal=x**2), (0, 1), [0.7], checks=["proof"])
    >>> print(report.derivation.sections()[2][1])
    \begin{aligned}
    \frac{d a_{x}}{d t} &= a_{x} k \\
    \frac{d a_{k}}{d t} &= a_{x} x
    \end{aligned}
    """

    system: AdjointSystem
    statements: tuple[Statement, ...]

    def sections(self) -> list[tuple[str, str]]:
        """Return pairs (title, LaTeX of a displayed formula)."""
        system, eq = self.system, self.system.equations
        t = latex(eq.time)
        found = [("The problem", self._problem())]
        if max(eq.n_states, eq.n_parameters) <= SHOWN:
            found.append(("Its derivatives", self._blocks()))
        places = list(zip(system.q.flat(), system.dqdt.flat(), strict=True))[eq.n_states :]
        found.append(
            (
                "Theorem 1: the adjoint, backwards in time",
                aligned((rate(a, eq.time), latex(f)) for a, f in places),
            )
        )
        ends = zip(
            (*system.a1, *system.a3), (*system.terminal_a1, *system.terminal_a3), strict=True
        )
        end = [(f"{latex(a)}({t}_{{1}})", latex(e)) for a, e in ends]
        if system.weights:
            weights = aligned((latex(w), latex(e)) for w, e in system.weights)
            found.append(("Weights of the parts, known after the forward pass", weights))
        found.append(("At the end", aligned(end)))
        for jump in system.jumps:
            gains = zip((*system.a1, *system.a3), (*jump.a1, *jump.a3), strict=True)
            lines = [(rf"\Delta {latex(a)}", latex(g)) for a, g in gains if g != 0]
            if lines:
                shown = ", ".join(f"{time:g}" for time in jump.times[:6])
                more = ", ..." if len(jump.times) > 6 else ""
                found.append((f"Jumps, at time {shown}{more}", aligned(lines)))
        found.append(
            ("The adjoint of time, an invariant", aligned([(r"a_{\S2}", latex(system.a2))]))
        )
        found.append(("The gradient", self._result()))
        return found

    def equations(self) -> list[tuple[str, sp.Eq]]:
        """Return pairs (title, equation) of the adjoint system, for other ways to set them."""
        system, eq = self.system, self.system.equations
        t, end = eq.time, sp.Symbol(f"{eq.time.name}_1")

        def equal(left: sp.Expr, right: sp.Expr) -> sp.Eq:
            return sp.Eq(left, right, evaluate=False)

        rates = list(zip(system.q.flat(), system.dqdt.flat(), strict=True))
        n = eq.n_states
        found = [("The problem", equal(sp.Derivative(q, t), f)) for q, f in rates[:n]]
        title = "Theorem 1: the adjoint, backwards in time"
        found += [(title, equal(sp.Derivative(q, t), f)) for q, f in rates[n:]]
        ends = zip(
            (*system.a1, *system.a3), (*system.terminal_a1, *system.terminal_a3), strict=True
        )
        title = "Weights of the parts, known after the forward pass"
        found += [(title, equal(w, e)) for w, e in system.weights]
        found += [("At the end", equal(sp.Function(a.name)(end), e)) for a, e in ends]
        for jump in system.jumps:
            title = f"Jumps, at time {', '.join(f'{time:g}' for time in jump.times[:6])}"
            gains = zip((*system.a1, *system.a3), (*jump.a1, *jump.a3), strict=True)
            found += [(title, equal(sp.Symbol(f"Δ{a.name}"), g)) for a, g in gains if g != 0]
        return found

    def proofs(self) -> list[str]:
        """Return one line for each statement: what, and how it was proved."""
        words = {
            "symbolically": "proved by SymPy",
            "numerically": f"equal at {POINTS} random points in 50 digits (no proof)",
            "false": "FALSE",
            "open": "undecided",
        }
        return [f"{s.name}: {words[s.how]}" for s in self.statements]

    def latex(self) -> str:
        """Return the whole derivation, a heading before each formula."""
        parts = [rf"\textbf{{{title}}}\\" + f"\n{formula}" for title, formula in self.sections()]
        return "\n\n".join(parts)

    def _repr_latex_(self) -> str | None:
        try:
            rows = [
                rf"\text{{{title}:}} \\ {formula} \\[1ex]" for title, formula in self.sections()
            ]
        except ModelError:
            return None
        body = "\n".join(rows)
        return f"$\\displaystyle \\begin{{array}}{{l}}\n{body}\n\\end{{array}}$"

    def __repr__(self) -> str:
        """Return the proofs as text."""
        return "\n".join(["Derivation of the adjoint", *(f"  {line}" for line in self.proofs())])

    def _problem(self) -> str:
        system, eq = self.system, self.system.equations
        body = model_latex(eq)
        t, terms = latex(eq.time), []
        if system.terminal != 0:
            terms.append(rf"\left({latex(system.terminal)}\right)\Big|_{{{t} = {t}_{{1}}}}")
        for jump in system.jumps:
            several = rf"\sum_{{{len(jump.times)}\ \text{{times}}}}" if len(jump.times) > 1 else ""
            at = "" if several else rf"\Big|_{{{t} = {jump.times[0]:g}}}"
            terms.append(rf"{several}\left({latex(jump.expression)}\right){at}")
        if system.running != 0:
            terms.append(
                rf"\int_{{{t}_{{0}}}}^{{{t}_{{1}}}} \left({latex(system.running)}\right) d{t}"
            )
        total = "J &= " + " + ".join(terms)
        if system.weights:
            # The parts count by their weights, which are numbers after the forward pass.
            total = f"J &= {latex(system.outer)} \\\\\n"
            total += r"\mathrm{d}J &= \mathrm{d}\Bigl[" + " + ".join(terms) + r"\Bigr]_{w}"
            total += "".join(
                rf" + {latex(slope)}\,\mathrm{{d}}{latex(p)}"
                for p, slope in zip(
                    eq.parameters, gradient(system.outer, eq.parameters), strict=True
                )
                if slope != 0
            )
        return body.replace("\n\\end{aligned}", f" \\\\\n{total}\n\\end{{aligned}}")

    def _blocks(self) -> str:
        eq = self.system.equations
        lines = [(r"\nabla_{\S1} f", latex(blocks.dfdz(eq)))]
        if eq.n_parameters:
            lines.append((r"\nabla_{\S3} f", latex(blocks.dfdtheta(eq))))
        if any(entry != 0 for entry in blocks.dfdt(eq)):
            lines.append((r"\nabla_{\S2} f", latex(blocks.dfdt(eq))))
        cost = self.system.running
        if cost != 0:
            row = sp.ImmutableDenseMatrix([gradient(cost, eq.states)])
            lines.append((r"\partial c/\partial z", latex(row)))
        return aligned(lines)

    def _result(self) -> str:
        system, eq = self.system, self.system.equations
        t = latex(eq.time)
        lines = []
        for j, (p, a) in enumerate(zip(eq.parameters, system.a3, strict=True)):
            terms = [f"{latex(a)}({t}_{{0}})"]
            for adjoint, start in zip(system.a1, eq.initial or (), strict=False):
                slope = gradient(start, eq.parameters)[j]
                if slope != 0:
                    terms.append(rf"{latex(adjoint)}({t}_{{0}}) \left({latex(slope)}\right)")
            lines.append((rf"dJ/d{latex(p)}", " + ".join(terms)))
        for state, a in zip(eq.states, system.a1, strict=True):
            lines.append((rf"dJ/d{latex(state)}({t}_{{0}})", f"{latex(a)}({t}_{{0}})"))
        return aligned(lines)
