"""Mining, rendered streets, compositing, training and the loop at home."""
