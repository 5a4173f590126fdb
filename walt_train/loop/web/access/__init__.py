"""Who may see and do what: people and their roles, sessions, tokens for programs, and the record of what was done."""
