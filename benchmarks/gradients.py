"""Gradients of ODE solutions: symode against its peers, at equal tolerance and at equal error.

    python benchmarks/gradients.py                               # everything, about ten minutes
    python benchmarks/gradients.py --quick --workloads lotka_volterra --peers numbalsoda diffrax
    python benchmarks/gradients.py --json results.json

Loss and gradient are those of workloads.json: least squares at the observation times, derivative
in all parameters and initial values. Everybody runs on one core, in the configuration that led its
own work-precision diagram (``BEST`` in each file of peers/; ``--all`` tries every configuration).
Times are medians of interleaved rounds. Claims are read from the second table, which compares at
equal gradient error, interpolated on each library's own curve over the tolerances.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import time
from importlib import import_module, metadata
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
# One thread each, before any of the libraries is imported.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")

from measure import (  # noqa: E402
    Entry,
    at_error,
    milliseconds,
    quiet_descriptors,
    ratio,
    table,
    time_interleaved,
)
from workloads import ALL, STANDARD, TOLERANCES, load  # noqa: E402

PEERS = ("numbalsoda", "casadi", "diffrax", "scipy")
# (rtol, atol) of the work-precision curves; A and B of the data are among them.
LADDER = (
    (1e-3, 1e-6),
    (1e-4, 1e-7),
    (1e-5, 1e-8),
    TOLERANCES["A"],
    (1e-7, 3e-10),
    TOLERANCES["B"],
    (1e-9, 1e-11),
)
QUICK_LADDER = ((1e-4, 1e-7), TOLERANCES["A"], TOLERANCES["B"])
# How many times faster than each peer symode means to be.
GOAL = 5.0
# The error at which the design states its budget for each workload, and that budget in ms.
BUDGET = {
    "lotka_volterra": (1e-4, 0.05),
    "network_20": (1e-6, 0.3),
    "robertson": (1e-5, 0.15),
    "hires": (2e-4, 0.5),
    "brusselator_40": (1e-3, 1.5),
    "brusselator_200": (1e-3, 10.0),
}


def main(arguments=None) -> int:
    """Run the command line."""
    options = _parse(arguments)
    core = _pin(options.core)
    names = ["symode", *options.peers]
    modules = {name: import_module(f"peers.{name}_peer") for name in names}
    with quiet_descriptors() as screen:
        print(_machine(core), file=screen)
        present = [name for name in names if modules[name].available()]
        missing = [name for name in names if name not in present]
        print(_versions(present), file=screen)
        if options.cpu_time:
            print("times are CPU times of the process", file=screen)
        for name in missing:
            print(f"{name}: not installed ({modules[name].INSTALL})", file=screen)
        results = {"machine": _machine(core), "versions": _versions(present)}
        results |= {"clock": "cpu" if options.cpu_time else "wall", "gradients": []}
        for workload_name in options.workloads:
            entries = run_workload(workload_name, modules, present, options, screen)
            report(workload_name, entries, modules, missing, options, screen)
            results["gradients"] += [_record(workload_name, entry) for entry in entries]
    if not options.no_cold_start:
        import cold_start

        results["cold_start"] = cold_start.run(present, missing, options.quick)
    if not options.no_ensemble:
        import ensemble

        results["ensemble"] = ensemble.run(present, options.quick)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 0


def _parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--workloads", nargs="+", default=list(STANDARD), choices=ALL, metavar="NAME",
        help=f"among {', '.join(ALL)}; all but the last by default")  # fmt: skip
    add("--peers", nargs="*", default=list(PEERS), choices=PEERS, metavar="NAME",
        help=f"among {', '.join(PEERS)}")  # fmt: skip
    add("--tolerance", nargs="+", default=["A", "B"], choices=list(TOLERANCES),
        help="A: rtol 1e-6, atol 1e-9; B: rtol 1e-8, atol 1e-10")  # fmt: skip
    add("--configurations", nargs="+", default=[], metavar="WHO:CONFIGURATION",
        help="try these instead of the best known, e.g. symode:tsit5-DiscreteAdjoint")  # fmt: skip
    add("--all", action="store_true", help="try every configuration of everybody (slow)")
    add("--json", metavar="FILE", help="write what was measured")
    add("--quick", action="store_true", help="fewer tolerances and rounds")
    add("--cpu-time", action="store_true", help="CPU time, for a machine shared with others")
    add("--core", type=int, default=None, help="core to run on; the last allowed one by default")
    add("--no-cold-start", action="store_true")
    add("--no-ensemble", action="store_true")
    return parser.parse_args(arguments)


def run_workload(workload_name, modules, present, options, screen) -> list[Entry]:
    """Prepare, check and time every configuration of everybody on one workload."""
    workload = load(workload_name)
    ladder = QUICK_LADDER if options.quick else LADDER
    entries = []
    for name in present:
        module = modules[name]
        chosen = [c.split(":", 1)[1] for c in options.configurations if c.startswith(f"{name}:")]
        configurations = chosen or module.BEST[workload_name]
        if options.all:
            configurations = module.CONFIGURATIONS
        elif not chosen:
            configurations = (*configurations, *getattr(module, "UNCONTROLLED", ()))
        for configuration in configurations:
            entries += _prepared(workload, module, configuration, ladder, screen)
    rounds, batch = (3, 0.01) if options.quick else (9, 0.02)
    clock = time.process_time if options.cpu_time else time.perf_counter
    time_interleaved(entries, rounds, batch, clock)
    return entries


def _prepared(workload, module, configuration, ladder, screen) -> list[Entry]:
    """Return one entry per tolerance; stop at the first that fails or takes too long."""
    entries = []
    for rtol, atol in ladder:
        entry = Entry(module.NAME, configuration, rtol, atol)
        started = time.perf_counter()
        try:
            entry.call = module.prepare(workload, rtol, atol, configuration)
            entry.error = workload.error(entry.call())
            one = time.perf_counter()
            entry.call()
            one = time.perf_counter() - one
        except Exception as failure:  # any peer's failure is a row of the table, not ours
            entry.failure = f"{type(failure).__name__}: {' '.join(str(failure).split())[:90]}"
            one = 0.0
        entries.append(entry)
        if one > 2.0 or time.perf_counter() - started > 60.0:
            break
    return entries


def report(workload_name, entries, modules, missing, options, screen) -> None:
    """Print both tables of one workload."""
    uncontrolled = {(m.NAME, c) for m in modules.values() for c in getattr(m, "UNCONTROLLED", ())}
    print(f"\n{workload_name}: at equal tolerance", file=screen)
    rows = []
    for label in options.tolerance:
        rtol, atol = TOLERANCES[label]
        at = [e for e in entries if (e.rtol, e.atol) == (rtol, atol)]
        ours = min((e.median for e in at if e.who == "symode" and e.usable), default=math.nan)
        for entry in at:
            if (entry.who, entry.configuration) in uncontrolled:
                continue
            if entry.failure:
                rows.append([entry.who, entry.configuration, label, "failed", entry.failure, ""])
                continue
            rows.append(
                [
                    entry.who, entry.configuration, label, milliseconds(entry.median),
                    f"{entry.error:.1e}", ratio(entry.median / ours),
                ]
            )  # fmt: skip
        rows += [[name, "not installed", label, "", "", ""] for name in missing]
    header = ["who", "configuration", "tolerance", "ms", "error", "time / symode"]
    print(table(rows, header), file=screen)
    _report_equal_error(workload_name, entries, uncontrolled, missing, options, screen)


def _report_equal_error(workload_name, entries, uncontrolled, missing, options, screen) -> None:
    design_error, budget = BUDGET[workload_name]
    levels = {f"{design_error:.0e} (budget)": design_error}
    for label in options.tolerance:
        for who in dict.fromkeys(e.who for e in entries):
            at = [
                e for e in entries
                if e.who == who and (e.rtol, e.atol) == TOLERANCES[label] and e.usable
                and (e.who, e.configuration) not in uncontrolled
            ]  # fmt: skip
            if at:
                error = min(at, key=lambda e: e.median).error
                levels[f"{error:.1e} ({who} at {label})"] = error
    print(
        f"\n{workload_name}: ms at equal error, interpolated; in brackets time / symode",
        file=screen,
    )
    whos = list(dict.fromkeys(e.who for e in entries))
    rows = []
    for title, error in levels.items():
        row, ours = [title], None
        for who in whos:
            mine = [
                e for e in entries if e.who == who and (who, e.configuration) not in uncontrolled
            ]
            found = at_error(mine, error)
            if who == "symode":
                ours = found
            row.append(_at_error_cell(found, ours, who))
        for who, configuration in sorted(uncontrolled):
            mine = [e for e in entries if (e.who, e.configuration) == (who, configuration)]
            if mine:
                row.append(_at_error_cell(at_error(mine, error), ours, who))
        rows.append(row + ["not installed"] * len(missing))
    marked = [
        f"{who} {configuration}*"
        for who, configuration in sorted(uncontrolled)
        if any((e.who, e.configuration) == (who, configuration) for e in entries)
    ]
    print(table(rows, ["error", *whos, *marked, *missing]), file=screen)
    if marked:
        print(
            "* fixed steps, no error control: the step was found with the reference at hand",
            file=screen,
        )
    print("< only the loosest run, more accurate than asked; never: no run reaches it", file=screen)
    _claims(workload_name, entries, uncontrolled, design_error, budget, screen)
    _tolerances(entries, uncontrolled, options.tolerance, screen)


def _tolerances(entries, uncontrolled, labels, screen) -> None:
    """Print symode's time at each tolerance, its error there, and peers at that error."""
    first = math.nan
    for label in labels:
        at = [
            e for e in entries
            if e.who == "symode" and (e.rtol, e.atol) == TOLERANCES[label] and e.usable
        ]  # fmt: skip
        if not at:
            continue
        ours = min(at, key=lambda e: e.median)
        times = f", {ours.median / first:.1f} times {labels[0]}" if math.isfinite(first) else ""
        first = ours.median if math.isnan(first) else first
        parts = []
        for who in dict.fromkeys(e.who for e in entries if e.who != "symode"):
            mine = [
                e for e in entries if e.who == who and (who, e.configuration) not in uncontrolled
            ]
            found = at_error(mine, ours.error)
            if not math.isfinite(found.seconds):
                parts.append(f"{who} never")
                continue
            factor = found.seconds / ours.median
            short = "" if factor >= GOAL else f" (below {GOAL:g}: {GOAL / factor:.1f} times short)"
            parts.append(f"{who} {ratio(factor)}{short}")
        print(
            f"tolerance {label}: symode {milliseconds(ours.median)} ms, error {ours.error:.1e}"
            f"{times}; at that error: {', '.join(parts)}",
            file=screen,
        )


def _at_error_cell(found, ours, who) -> str:
    if found.kind == "never":
        return "never"
    text = f"{'<' if found.kind == 'loose' else ''}{milliseconds(found.seconds)}"
    if who == "symode" or ours is None or not math.isfinite(ours.seconds):
        return text
    return f"{text} ({ratio(found.seconds / ours.seconds)})"


def _claims(workload_name, entries, uncontrolled, error, budget, screen) -> None:
    """Print what may be said of symode at the error of the budget."""
    ours = at_error([e for e in entries if e.who == "symode"], error)
    if not math.isfinite(ours.seconds):
        print(f"symode has no run with an error of {error:.0e}", file=screen)
        return
    print(
        f"symode {ours.configuration} at error {error:.0e}: {milliseconds(ours.seconds)} ms, "
        f"budget {budget:g} ms: {'met' if 1e3 * ours.seconds <= budget else 'MISSED'}",
        file=screen,
    )
    for who in dict.fromkeys(e.who for e in entries if e.who != "symode"):
        mine = [e for e in entries if e.who == who and (who, e.configuration) not in uncontrolled]
        found = at_error(mine, error)
        if math.isfinite(found.seconds):
            factor = found.seconds / ours.seconds
            verb = "faster" if factor >= 1 else "SLOWER"
            factor = max(factor, 1 / factor)
            print(f"  {factor:.1f} times {verb} than {who} ({found.configuration})", file=screen)


def _record(workload_name, entry) -> dict:
    return {
        "workload": workload_name,
        "who": entry.who,
        "configuration": entry.configuration,
        "rtol": entry.rtol,
        "atol": entry.atol,
        "milliseconds": 1e3 * entry.median if entry.seconds else None,
        "error": entry.error if math.isfinite(entry.error) else None,
        "failure": entry.failure,
    }


def _pin(core):
    """Bind the process to one core where the system can; return the core."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    allowed = sorted(os.sched_getaffinity(0))
    core = allowed[-1] if core is None else core
    os.sched_setaffinity(0, {core})
    return core


def _machine(core) -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    load_average = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{model}, core {core}, Python {platform.python_version()}{load_average}"


def _versions(present) -> str:
    packages = {"symode": ("numba", "sympy"), "diffrax": ("diffrax", "jax")}
    names = [package for who in present for package in packages.get(who, (who,))]
    return ", ".join(f"{name} {metadata.version(name)}" for name in dict.fromkeys(names))


if __name__ == "__main__":
    sys.exit(main())
