"""The `promptreel` command: one module per group of subcommands."""
