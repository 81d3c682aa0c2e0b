"""How far the answer of a final stage can be trusted, and what it costs."""
