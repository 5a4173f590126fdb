"""Who may send how much, and whose crops wait for a person before they train."""
