"""What a coordinator tells others while its study runs: metrics for Prometheus, and notices."""
