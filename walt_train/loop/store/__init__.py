"""What home holds: rows that say what there is, and content-addressed blobs."""
