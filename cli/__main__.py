"""`python -m cli`: the `trialfleet` command without its entry point."""

from cli.main import main

main()
