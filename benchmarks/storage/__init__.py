"""What coordination costs a trial: ours beside stock Optuna's, on one PostgreSQL in one run."""
