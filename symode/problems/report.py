"""A fit as a page of its own: tables, pictures and equations in one HTML file, no script."""

from __future__ import annotations

import io
import platform
import re
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import sympy as sp

from symode.errors import OptionError
from symode.problems.plots import plot_fit
from symode.problems.plots_uncertainty import (
    plot_correlation,
    plot_parameters,
    plot_profiles,
    plot_residuals,
    plot_waterfall,
    pyplot,
)
from symode.problems.profiles import Profile

if TYPE_CHECKING:
    from symode.problems.result import Fit

#: Equations typeset; SymPy's printer recurses and is slow on long ones.
MOST_EQUATIONS: Final = 40
LONGEST: Final = 400  # characters

PAGE: Final = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="symode">
<title>$title</title>
<link rel="icon" href="data:,">
<style>
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; color: #1c2530; background: #fff;
  font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.35rem; margin: .5rem 0; } h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
.verdict { border-left: .35rem solid #1b7a43; background: #f5f7f9; padding: .6rem .8rem; }
.verdict.bad { border-color: #b3261e; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid #d9dfe6;
  font-size: .92rem; vertical-align: top; }
th, td { overflow-wrap: normal; white-space: nowrap; }
td:last-child { white-space: normal; min-width: 8rem; }
td.n, th.n { text-align: right; }
figure { margin: 1rem 0; } figcaption { color: #5a6673; font-size: .9rem; }
svg { max-width: 100%; height: auto; display: block; }
.math { overflow-x: auto; padding: .15rem 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
$verdict
<h2>Estimates</h2>
$estimates
$figures
<h2>Model</h2>
$model
<h2>Searches</h2>
$searches
<h2>Settings</h2>
$settings
</main>
</body>
</html>
""")


def write_report(
    fit: Fit, path: Any, profiles: Mapping[str, Profile] | None, title: str, level: float
) -> None:
    """Write the page of a fit; see `Fit.report`.

    Raises
    ------
    MissingExtraError
        Without matplotlib.
    OptionError
        When the file cannot be written.
    """
    text = page(fit, profiles, title, level)
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise OptionError(f"The report could not be written: {error}.") from None


def page(fit: Fit, profiles: Mapping[str, Profile] | None, title: str, level: float) -> str:
    """Return the page as text."""
    lines = fit.summary().splitlines()
    bad = "" if fit.best.status == "converged" else " bad"
    summary = "<br>".join(escape(line.strip()) for line in lines)
    return PAGE.substitute(
        title=escape(title),
        verdict=f"<p class='verdict{bad}'>{summary}</p>",
        estimates=_estimates(fit, profiles, level),
        figures="".join(_figures(fit, profiles, level)),
        model=_model(fit),
        searches=_searches(fit),
        settings=_settings(fit),
    )


def _estimates(fit: Fit, profiles: Mapping[str, Profile] | None, level: float) -> str:
    found, space = fit.intervals(level), fit.problem.space
    head = ["parameter", "estimate", "std. error", f"{100 * level:g} % interval (parabola)"]
    if profiles:
        head.append("interval (profile)")
    head += ["bounds", "scale"]
    rows = []
    for i, name in enumerate(space.names):
        error = float(found.standard_error[i])
        spread = "at a bound" if np.isnan(error) else f"{error:.2g}"
        cells = [
            name,
            f"{float(found.estimate[i]):.6g}",
            "undetermined" if np.isinf(error) else spread,
            f"{float(found.lower[i]):.4g} to {float(found.upper[i]):.4g}",
        ]
        if profiles:
            known = profiles.get(name)
            cells.append("" if known is None else f"{known.lower:.4g} to {known.upper:.4g}")
        transform = space.transforms[i]
        low, high = (float(transform.to_theta(b[i])) for b in (space.lower, space.upper))
        cells += [f"{low:.3g} to {high:.3g}", transform.name]
        rows.append(cells)
    remarks = "".join(f"<p>{escape(remark)}</p>" for remark in found.remarks)
    return _table(head, rows, numbers=(1, 2)) + remarks


def _figures(fit: Fit, profiles: Mapping[str, Profile] | None, level: float) -> Iterable[str]:
    plt = pyplot()
    drawings: list[tuple[str, Any]] = [
        ("Data and model; the band should hold 95 % of the measurements.",
         lambda: plot_fit(fit.problem, fit.theta, None, 0.95)),
        ("Residuals in units of sigma.", lambda: plot_residuals(fit)),
        ("What each search reached.", lambda: plot_waterfall(fit)),
        ("Parameters of the best searches within their bounds.", lambda: plot_parameters(fit)),
    ]  # fmt: skip
    if fit.problem.size > 1:
        drawings.append(("Correlation of the estimates.", lambda: plot_correlation(fit)))
    if profiles:
        drawings.append(("Profile likelihoods.", lambda: plot_profiles(profiles)))
    count = 0
    for caption, draw in drawings:
        before = set(plt.get_fignums())
        draw()
        for number in sorted(set(plt.get_fignums()) - before):
            figure = plt.figure(number)
            count += 1
            words = f"<figcaption>{escape(caption)}</figcaption>"
            yield f"<figure>{_svg(figure, count)}{words}</figure>"
            plt.close(figure)


def _svg(figure: Any, count: int) -> str:
    """Return a figure as an SVG element, without what only a file of its own needs."""
    import matplotlib as mpl

    buffer = io.StringIO()
    # Text as paths: the page looks the same where the font is missing.
    with mpl.rc_context({"svg.fonttype": "path", "svg.hashsalt": str(count)}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    # Identifiers are unique to a file, not to a page of several.
    marks = set(re.findall(r'id="([^"]+)"', text))
    prefix = f"f{count}-"
    names = "|".join(map(re.escape, sorted(marks)))
    pattern = re.compile(rf'(id="|href="#|url\(#)({names})(?=["\)])')
    return pattern.sub(lambda m: m.group(1) + prefix + m.group(2), text)


def _model(fit: Fit) -> str:
    equations = fit.problem.model.equations
    assert equations.initial is not None
    t = equations.time
    shown = slice(MOST_EQUATIONS)
    lines = [
        _equation(f"d{state}/d{t}", rhs)
        for state, rhs in zip(equations.states[shown], equations.rhs[shown], strict=True)
    ]
    for state, value in zip(equations.states[shown], equations.initial[shown], strict=True):
        lines.append(_equation(f"{state}({fit.problem.t0:g})", value))
    for column in fit.problem.columns[:MOST_EQUATIONS]:
        kind = type(column.noise).__name__
        lines.append(
            f"<p>{escape(column.name)} measures {escape(str(column.expression))}, noise "
            f"{kind}, sigma {escape(str(column.sigma))}</p>"
        )
    more = equations.n_states - MOST_EQUATIONS
    if more > 0:
        lines.append(f"<p>… and {more} more equations.</p>")
    return "".join(lines)


def _equation(left: str, right: sp.Basic) -> str:
    """Return an equation as MathML, as text where it is long or has no MathML."""
    text = str(right)
    if len(text) <= LONGEST:
        try:
            math = sp.mathml(right, printer="presentation")
            return (
                f"<div class='math'><math display='block'><mrow><mtext>{escape(left)}</mtext>"
                f"<mo>=</mo>{math}</mrow></math></div>"
            )
        except (AttributeError, NotImplementedError, TypeError, RecursionError, ValueError):
            pass
    return f"<pre>{escape(left)} = {escape(text[: 4 * LONGEST])}</pre>"


def _searches(fit: Fit) -> str:
    rows = [
        [str(s.index), s.status, f"{s.value:.8g}", str(s.evaluations), f"{s.seconds:.2g} s",
         s.message[:160]]
        for s in fit.starts
    ]  # fmt: skip
    head = ["start", "status", "objective", "evaluations", "time", "last word"]
    return _table(head, rows, numbers=(0, 2, 3))


def _settings(fit: Fit) -> str:
    from symode import __version__

    problem = fit.problem
    rows = [
        ["optimizer", fit.optimizer],
        ["seed", str(fit.seed)],
        ["starts", f"{len(fit.starts)} of {fit.requested}"],
        ["conditions", ", ".join(part.name for part in problem.parts) or "1"],
        *([name, str(value)] for name, value in problem.options.items()),
        ["symode", __version__],
        ["Python", platform.python_version()],
        ["NumPy", np.__version__],
        ["SymPy", sp.__version__],
        ["machine", f"{platform.system()} {platform.machine()}"],
    ]
    return _table(["setting", "value"], rows)


def _table(head: list[str], rows: list[list[str]], numbers: tuple[int, ...] = ()) -> str:
    def cells(row: list[str], tag: str) -> str:
        return "".join(
            f"<{tag}{' class=n' if j in numbers else ''}>{escape(cell)}</{tag}>"
            for j, cell in enumerate(row)
        )

    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    return (
        f"<div class='wide'><table><thead><tr>{cells(head, 'th')}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )
