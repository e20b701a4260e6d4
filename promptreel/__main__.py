"""`python -m promptreel`."""

from promptreel.cli.main import main

main()
