"""`python -m trialfleet.cli`: the `trialfleet` command without its entry point."""

from trialfleet.cli.main import main

main()
