"""reactions: a Model from a network of reactions written as text."""

from __future__ import annotations

from symode.equations.reactions import parse_reactions
from symode.interface.model import Model


def reactions(text: str) -> Model:
    r"""Return the model of reactions with their rates.

    .. math:: \dot z_i = \sum_j (\nu^+_{ij} - \nu^-_{ij}) \, v_j(z, t, \theta)

    Parameters
    ----------
    text
        One reaction a line, ``sides; rate``, as in ``"A + B -> C; k*A*B"``. ``<->`` takes two
        rates, ``A <-> B; kf*A; kb*B``; a side may be empty; species may have numbers before them;
        ``name:`` before a reaction makes its rate an observable. The other statements of
        `Model.from_text` may stand beside reactions (``A(0) = 2``, ``obs``, ``param``). A species
        that ``param`` declares keeps its value. Rates are taken as written, in the units of the
        states per time; nothing in the text is executed.

    Raises
    ------
    ParseError
        With every statement that could not be read, each with line, column and a caret.
    ModelError
        When the statements can be read but do not form a model.

    Examples
    --------
    >>> import symode
    >>> model = symode.reactions('''
    ...     binding: A + B <-> C; k_on*A*B; k_off*C
    ...     C -> ; d*C
    ...     A(0) = 2; B(0) = 1; C(0) = 0
    ... ''')
    >>> model.equations.state_names, model.equations.parameter_names
    (('A', 'B', 'C'), ('d', 'k_off', 'k_on'))
    >>> dict(model.equations.observables)
    {'binding': A*B*k_on - C*k_off}
    """
    return Model(parse_reactions(text))
