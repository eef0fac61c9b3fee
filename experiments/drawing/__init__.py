"""Figures of the experiments, from their tables."""
