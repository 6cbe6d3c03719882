"""Queues of compiled searches, shared by threads."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from symode.kernels import search_types as st

Floats = NDArray[np.float64]


def make_queue(begin: Floats, max_iterations: int) -> st.Queue:
    """Return a queue of searches from points inside the bounds. ``begin``: shape ``(N, p)``."""
    count, p = begin.shape
    lane = np.zeros(st.N_LANE, dtype=np.int64)
    lane[st.TAKEN], lane[st.ITERATIONS_EACH] = -1, max_iterations
    return st.Queue(
        np.zeros(1, dtype=np.int64), np.ascontiguousarray(begin), np.zeros((count, p)),
        np.zeros((count, p)), np.zeros((count, st.N_FOUND)),
        np.zeros((count, st.N_COUNT), dtype=np.int64), np.zeros(count, dtype=np.int64), lane,
    )  # fmt: skip


def for_another_thread(queue: st.Queue) -> st.Queue:
    """Return the same queue with memory of its own for what a thread has done."""
    return queue._replace(done=np.zeros_like(queue.done), lane=queue.lane.copy())
