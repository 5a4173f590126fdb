"""One file for each revision; see `..env` for how to add one."""
