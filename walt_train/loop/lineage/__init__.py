"""What was made of what, forgetting it for good, keeping it for so long, and a copy of all of it."""
