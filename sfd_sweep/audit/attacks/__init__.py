"""Attacks on generators that should have forgotten something, one kind a module."""
