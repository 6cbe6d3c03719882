"""Gradients of losses: one file per method, the same interface for all."""
