"""optuna-dashboard: its server, and what it shows beside the trials (notes and artifacts)."""
