"""Distributed tuning of reinforcement-learning agents."""

__version__ = "0.2.0"

# Raised when the bits of a result change, or the meaning of a stored row: versions with the same
# number can work on one study together. 0.1.0 had 1. In 2, metrics replace curves, and an agent's
# transitions are counted another way.
COMPATIBILITY = 2
