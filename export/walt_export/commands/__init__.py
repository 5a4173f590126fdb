"""The commands of `walt-export`."""
