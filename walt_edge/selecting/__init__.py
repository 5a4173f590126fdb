"""What may use the line home.

`selector` weighs crops by worth and `novelty` against `budgets`, `sampling` chooses full frames and says which blocks
of time judge; `timeline` is the time that they go by, `state_file` outlives them.
"""
