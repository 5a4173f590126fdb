"""Where the README's figures come from: each prints a table and writes JSON."""
