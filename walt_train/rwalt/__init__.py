"""RWALT: rendered streets of a fixed camera with exact amodal truth."""
