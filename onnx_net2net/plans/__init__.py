"""From what a user asks to what is done: steps, recipes, plans, inspection, provenance.

Uses `growth`, `verification` and below.
"""
