"""`python -P -m trialfleet.cli`: the `trialfleet` command without its entry point."""

from trialfleet.cli import imports

# Before any other import: without -P the current folder would come first.
imports.search_our_own_first()

from trialfleet.cli.main import main  # noqa: E402

main()
