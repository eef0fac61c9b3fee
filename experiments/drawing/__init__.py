"""The figures of the landscape experiments, from their tables."""
