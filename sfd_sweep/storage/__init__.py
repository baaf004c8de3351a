"""Where a sweep keeps its files: folders, journal, locks."""
