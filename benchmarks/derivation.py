"""What derivatives cost: sweeps over the graph against SymPy's Jacobian with cse.

    python benchmarks/derivation.py            SymPy gets 30 s a system
    python benchmarks/derivation.py --limit 0  without SymPy

Operations are additions, products, quotients, powers and function calls. The kernel is f with both
vector-Jacobian products; the ratio is its operations over those of f alone.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import time
from pathlib import Path

import sympy as sp

if __name__ == "__main__":  # also run as a file, from anywhere
    import sys

    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.systems import TABLE, System, with_products


def by_sweep(system: System) -> tuple[int, int, float, float]:
    """Return operations of f, of the kernel, and seconds to build and to sweep."""
    start = time.perf_counter()
    field = system.field()
    built = time.perf_counter()
    kernel = with_products(field)
    swept = time.perf_counter()
    return field.graph.n_operations, kernel.n_operations, built - start, swept - built


def by_sympy(index: int, results) -> None:
    """Put operations of the kernel after cse, and seconds, for one system of the table."""
    system = TABLE[index]()
    start = time.perf_counter()
    weights = sp.Matrix(sp.symbols(f"lam0:{len(system.states)}")).T
    f = sp.Matrix(system.rhs)
    products = [weights * f.jacobian(list(s)) for s in (system.states, system.parameters)]
    replaced, reduced = sp.cse([*f, *products[0], *products[1]])
    seconds = time.perf_counter() - start
    results.put((sum(sp.count_ops(e) for _, e in replaced) + sp.count_ops(reduced), seconds))


def within(limit: float, index: int) -> tuple[int, float] | None:
    """Return what SymPy needs, or None when that takes longer than the limit."""
    results = multiprocessing.Queue()
    process = multiprocessing.Process(target=by_sympy, args=(index, results))
    process.start()
    try:
        return results.get(timeout=limit)
    except queue.Empty:
        return None
    finally:
        process.terminate()
        process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=float, default=30.0, help="seconds SymPy may take")
    limit = parser.parse_args().limit
    print(
        "| system | operations in f | f + both VJPs: sweep | SymPy + cse | build + sweep | SymPy |"
    )
    print("|---|---|---|---|---|---|")
    for index, make in enumerate(TABLE):
        system = make()
        cost, kernel, build, sweep = by_sweep(system)
        line = f"| {system.title} | {cost} | {kernel / cost:.2f}x |"
        reference = within(limit, index) if limit > 0 else None
        if reference is None:
            line += f" – | {1e3 * build:.0f} + {1e3 * sweep:.0f} ms | over {limit:.0f} s |"
        else:
            line += f" {reference[0] / cost:.2f}x |"
            line += f" {1e3 * build:.0f} + {1e3 * sweep:.0f} ms | {reference[1]:.2f} s |"
        print(line, flush=True)


if __name__ == "__main__":
    main()
