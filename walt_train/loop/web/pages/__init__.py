"""One module per part of the dashboard; each has a `router`."""
