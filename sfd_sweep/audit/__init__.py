"""Audits: attacks that try to bring back what a generator has forgotten, controls, and an independent judge."""
