"""One module per subcommand of `walt-loop`."""
