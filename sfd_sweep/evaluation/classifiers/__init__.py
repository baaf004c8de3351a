"""Classifiers of all kinds; `loading` loads them by their source."""
