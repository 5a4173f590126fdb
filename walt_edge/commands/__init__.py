"""One module per subcommand of `walt-edge`."""
