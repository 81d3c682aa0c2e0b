"""TensorBoard on a study: what the database has becomes event files as it arrives."""
