"""HTML of runs: view models of committed tables, and the templates that show them."""
