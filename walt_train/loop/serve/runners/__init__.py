"""Where programs run: as children of this process, or as jobs of a Ray cluster."""
