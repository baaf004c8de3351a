"""Running a sweep on Ray: cluster, slots, broker, workers and driver."""
