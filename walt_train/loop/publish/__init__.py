"""Signed releases: a TUF repository in a folder for any web server, and the wish that a device takes one."""
