"""Running a sweep: Ray Tune decides which trials run, long-lived Ray Train runs (slots) run them, Optuna's study keeps
the truth about each."""
