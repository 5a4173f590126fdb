"""The gate: whether a candidate may replace what runs, told by truth that it neither saw nor made."""
