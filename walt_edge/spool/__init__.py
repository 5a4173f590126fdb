"""What waits on the disk.

`spool` takes, keeps and settles it, `file` is its format, `key` what seals it, and `salvage` what becomes of a file
that is damaged or whose key is lost.
"""
