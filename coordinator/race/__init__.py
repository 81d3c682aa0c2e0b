"""The race: finalists on fresh seeds, block by block, until it is settled who wins."""
