"""Solvers: tableaus, options, the adaptive integration and its Solution."""
