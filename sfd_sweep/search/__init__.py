"""Which settings are tried next and which trials are on the Pareto front; no Ray."""
