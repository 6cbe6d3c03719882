"""A report as a page of its own: HTML, MathML and SVG in one file, nothing loaded, no script."""

from __future__ import annotations

from html import escape
from string import Template
from typing import Final

import sympy as sp

from symode.gradients.verify.bounded import within
from symode.gradients.verify.derivation import Derivation
from symode.gradients.verify.plots import remainder_plot
from symode.gradients.verify.report import MEANING, Check, Entry, Report

#: Equations shown, and seconds that setting them may take.
MOST_LINES, SECONDS = 60, 3.0

PAGE: Final = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="symode">
<title>$title</title>
<link rel="icon" href="data:,">
<style>
:root { --ink: #1c2530; --soft: #5a6673; --line: #d9dfe6; --good: #1b7a43; --bad: #b3261e;
  --skip: #6b7280; --paper: #ffffff; --tint: #f5f7f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --soft: #a5b0bb; --line: #38424c;
  --good: #57c98a; --bad: #ff8a80; --skip: #9aa4af; --paper: #14191f; --tint: #1d242c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 60rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.35rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
p { margin: .4rem 0; }
.soft { color: var(--soft); font-size: .9rem; }
.verdict { border-left: .35rem solid var(--good); background: var(--tint); padding: .6rem .8rem;
  font-weight: 600; }
.verdict.bad { border-color: var(--bad); }
.check { border-top: 1px solid var(--line); padding: .5rem 0; }
.check ul { margin: .2rem 0 .2rem 1.2rem; padding: 0; font-size: .9rem; color: var(--soft); }
.mark { font-weight: 700; margin-right: .4rem; color: var(--good); }
.FAIL .mark { color: var(--bad); } .skip .mark { color: var(--skip); }
.digits { float: right; font-variant-numeric: tabular-nums; color: var(--soft); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .25rem .4rem; border-bottom: 1px solid var(--line);
  vertical-align: top; font-size: .92rem; }
td.n, th.n { text-align: right; }
meter { width: 4.5rem; height: .8rem; vertical-align: middle; }
figure { margin: 1rem 0; max-width: 32rem; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 10px system-ui, sans-serif; fill: var(--soft); }
svg .grid { stroke: var(--line); stroke-width: .7; }
svg .guide { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 1 3; }
.math { overflow-x: auto; padding: .2rem 0; }
math { font-size: 1.02rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem; }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="soft">$subtitle</p>
<p class="verdict$bad">Verdict: $verdict.</p>
$causes
$entries
$plots
$checks
$derivation
</main>
</body>
</html>
""")


def page(report: Report) -> str:
    """Return a report as one HTML page.

    Examples
    --------
    >>> from symode.gradients.verify.report import Check
    >>> text = page(Report("<x>", 1.0, (Check("taylor", True, 12.0, "consistency", "ok"),)))
    >>> "&lt;x&gt;" in text, "http://" in text.replace("http://www.w3.org", "")
    (True, False)
    """
    title, _, rest = report.title.partition("\n")
    return PAGE.substitute(
        title=escape(title),
        subtitle=escape(rest),
        bad="" if report.passed else " bad",
        verdict=escape(report.verdict),
        causes=_causes(report),
        entries=_entries(report.entries),
        plots="".join(_plot(check) for check in report.tests),
        checks="".join(_group(report, kind) for kind in MEANING),
        derivation="" if report.derivation is None else _derivation(report.derivation),
    )


def _causes(report: Report) -> str:
    if not report.causes:
        return ""
    items = "".join(f"<li>{escape(cause)}</li>" for cause in report.causes)
    return f"<h2>Likely cause</h2><ul>{items}</ul>"


def _entries(entries: tuple[Entry, ...]) -> str:
    if not entries:
        return ""
    rows = "".join(
        f"<tr><td>{escape(e.name)}</td><td class='n'>{e.value:.10g}</td>"
        f"<td class='n'>{e.digits:.1f}</td>"
        f"<td><meter min='0' max='16' low='3' high='6' optimum='16' value='{e.digits:.1f}'>"
        f"{e.digits:.1f} digits</meter></td></tr>"
        for e in entries
    )
    return (
        "<h2>Digits of each derivative</h2>"
        f"<p class='soft'>Judged by {escape(entries[0].known_by)}.</p>"
        "<table><thead><tr><th>of J in</th><th class='n'>value</th><th class='n'>digits</th>"
        f"<th></th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _plot(check: Check) -> str:
    if not check.curves:
        return ""
    order = check.curves[0].order
    svg = remainder_plot(check.curves, f"Taylor remainders of order {order}")
    if not svg:
        return ""
    return (
        f"<h2>Taylor remainders of order {order}</h2><figure>{svg}<figcaption class='soft'>"
        f"Remainder over the relative perturbation ε, replaying the same steps. The dotted line "
        f"has slope {order}; a wrong gradient bends the curves to slope {order - 1}.</figcaption>"
        "</figure>"
    )


def _group(report: Report, kind: str) -> str:
    checks = [check for check in report.tests if check.evidence == kind]
    if not checks:
        return ""
    rows = []
    for check in checks:
        digits = "" if check.digitless else f"<span class='digits'>{check.digits:.1f} digits</span>"
        details = "".join(f"<li>{escape(line)}</li>" for line in check.details)
        rows.append(
            f"<div class='check {check.verdict}'>{digits}<span class='mark'>{check.verdict}</span>"
            f"<strong>{escape(check.name)}</strong><br>{escape(check.summary)}"
            f"{f'<ul>{details}</ul>' if details else ''}</div>"
        )
    meaning = escape(MEANING[kind])
    return f"<h2>{kind.capitalize()}</h2><p class='soft'>{meaning}</p>{''.join(rows)}"


def _derivation(derivation: Derivation) -> str:
    parts = ["<h2>Derivation</h2>"]
    proofs = "".join(f"<li>{escape(line)}</li>" for line in derivation.proofs())
    lines = derivation.equations()[:MOST_LINES]
    math: list[str] = within(SECONDS, lambda: [_math(e) for _, e in lines], [])
    heading = ""
    for (title, _), formula in zip(lines, math, strict=False):
        if title != heading:
            heading = title
            parts.append(f"<p class='soft'>{escape(title)}</p>")
        parts.append(f"<div class='math'>{formula}</div>")
    if not math:
        parts.append(f"<pre>{escape(derivation.latex())}</pre>")
    parts.append(f"<p class='soft'>What was proved</p><ul>{proofs}</ul>")
    return "".join(parts)


def _math(equation: sp.Basic) -> str:
    text = str(sp.mathml(equation, printer="presentation"))
    # SymPy's double-struck d is missing in many fonts.
    text = text.replace("&dd;", "d").replace("\u2146", "d")
    body = text.removeprefix("<math>").removesuffix("</math>")
    return f'<math xmlns="http://www.w3.org/1998/Math/MathML" display="block">{body}</math>'
