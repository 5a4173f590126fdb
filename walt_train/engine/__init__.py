"""Training: batches as a pure function of the step, the Runner, checkpoints, the threshold to be believed from."""
