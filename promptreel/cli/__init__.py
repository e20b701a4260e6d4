"""The `promptreel` command: one module for each group of subcommands, a plain function behind each."""
