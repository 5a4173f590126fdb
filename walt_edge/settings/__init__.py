"""What an agent is told: the `tree` of its settings, the `sources` and `flags` they come from, and `reload`."""
