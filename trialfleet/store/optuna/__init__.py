"""Optuna's storage on its own tables, without its ORM."""
