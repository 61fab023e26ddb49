"""What people read: inspections, plans and verdicts as text for a terminal.

Uses `plans` and below; prints nothing itself.
"""
