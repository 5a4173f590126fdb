"""How a device takes a better model: trust (TUF), two slots on disk, one thread, and a swap between two frames."""
