"""Rollouts that guard a fleet by themselves: cohorts, evidence, verdicts, and the way back."""
