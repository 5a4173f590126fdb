"""One module per subcommand of `walt-train`."""
