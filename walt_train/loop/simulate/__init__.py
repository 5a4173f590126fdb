"""Thousands of devices with the real protocol from one process: for tests, and for planning what home needs."""
