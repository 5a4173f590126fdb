"""The report of a demo: what was seen, what came home, why the rest did not, and how true it is."""
