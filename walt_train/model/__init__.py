"""WALT-Net: a small two-stage network with three mask heads: the object, what hides it, what it hides."""
