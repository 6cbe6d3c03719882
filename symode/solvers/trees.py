"""Rooted trees: the order conditions of one-step methods, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class RootedTrees:
    r"""All rooted trees up to some number of vertices, ordered by that number.

    A tree with more than one vertex is stored as two earlier ones: ``rest``, the
    tree without the last branch of its root, and ``child``, that branch. So
    everything defined by recursion over trees is filled order by order with
    whole-array operations.

    Parameters
    ----------
    order
        Number of vertices :math:`|\tau|`. Shape ``(n_trees,)``.
    density
        :math:`\gamma(\tau) = |\tau| \prod_{branches} \gamma`. Shape ``(n_trees,)``.
    rest, child
        Positions of the two parts; both 0 for the single vertex. Shape ``(n_trees,)``.
    n_branches
        Branches at the root. Shape ``(n_trees,)``.
    starts
        ``starts[p - 1]:starts[p]`` are the trees with p vertices.

    References
    ----------
    Hairer, Nørsett & Wanner (1993), *Solving ODEs I*, section II.2.

    Examples
    --------
    >>> rooted_trees(4).density.tolist()
    [1.0, 2.0, 3.0, 6.0, 4.0, 8.0, 12.0, 24.0]
    """

    order: Index
    density: Array
    rest: Index
    child: Index
    n_branches: Index
    starts: tuple[int, ...]

    def up_to(self, order: int) -> slice:
        """Return the slice of trees with at most `order` vertices.

        Examples
        --------
        >>> rooted_trees(8).up_to(5)
        slice(0, 17, None)
        """
        return slice(0, self.starts[order])


@lru_cache(maxsize=16)
def rooted_trees(order: int) -> RootedTrees:
    """Return the rooted trees with 1 to `order` vertices, each once.

    A tree is a root with a multiset of branches. Branches are attached in
    non-increasing position, which makes the construction unique.

    Examples
    --------
    >>> [len(rooted_trees(p).order) for p in range(1, 9)]
    [1, 2, 4, 8, 17, 37, 85, 200]
    """
    orders, densities, rests, children, branches = [1], [1.0], [0], [0], [0]
    branch_product = [1.0]  # product of the densities of the branches
    starts = [0, 1]
    for n in range(2, order + 1):
        for n_child in range(1, n):
            for rest in range(starts[n - n_child - 1], starts[n - n_child]):
                last = children[rest] if branches[rest] else starts[n_child]
                for child in range(starts[n_child - 1], min(starts[n_child], last + 1)):
                    product = branch_product[rest] * densities[child]
                    orders.append(n)
                    densities.append(n * product)
                    branch_product.append(product)
                    rests.append(rest)
                    children.append(child)
                    branches.append(branches[rest] + 1)
        starts.append(len(orders))
    return RootedTrees(
        np.array(orders, dtype=np.intp),
        np.array(densities),
        np.array(rests, dtype=np.intp),
        np.array(children, dtype=np.intp),
        np.array(branches, dtype=np.intp),
        tuple(starts),
    )


def stage_weights(trees: RootedTrees, branching: Array, chain: Array | None = None) -> Array:
    r"""Return :math:`\Phi_i(\tau)` for every tree and stage. Shape ``(n_trees, S)``.

    .. math:: \Phi_i(\bullet) = 1, \qquad
              \Phi_i([\tau_1 \dots \tau_m]) =
              \prod_{l=1}^m \sum_j \alpha_{ij} \Phi_j(\tau_l)

    A Rosenbrock method has :math:`\alpha + \Gamma` in place of :math:`\alpha`
    where the root has exactly one branch. A method with weights b has order p
    exactly when :math:`\sum_i b_i \Phi_i(\tau) = 1/\gamma(\tau)` for all trees
    with at most p vertices.

    Parameters
    ----------
    trees
        From `rooted_trees`.
    branching
        The matrix :math:`\alpha`. Shape ``(S, S)``.
    chain
        The matrix for roots with one branch; None means `branching`.

    References
    ----------
    Hairer, Nørsett & Wanner (1993), theorem II.2.13, and Hairer & Wanner
    (1996), *Solving ODEs II*, section IV.7.

    Examples
    --------
    >>> midpoint = np.array([[0.0, 0.0], [0.5, 0.0]])
    >>> stage_weights(rooted_trees(2), midpoint).tolist()
    [[1.0, 1.0], [0.0, 0.5]]
    """
    n_trees, n_stages = len(trees.order), len(branching)
    phi = np.ones((n_trees, n_stages))
    # For explicit methods phi itself is the product over branches.
    product = phi if chain is None else np.ones((n_trees, n_stages))
    through = np.empty((n_trees, n_stages))
    through[0] = branching.sum(axis=1)
    for start, stop in pairwise(trees.starts[1:]):
        now = slice(start, stop)
        np.multiply(product[trees.rest[now]], through[trees.child[now]], out=product[now])
        if chain is not None:
            single = (trees.n_branches[now] == 1)[:, None]
            chained = phi[trees.child[now]] @ chain.T
            phi[now] = np.where(single, chained, product[now])
        through[now] = phi[now] @ branching.T
    return phi
