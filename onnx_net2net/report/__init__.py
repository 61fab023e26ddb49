"""What people read: inspections, plans and growth as text for a terminal or JSON.

Uses `plans` and below. What prints (`text.show`, `text.warn`, `progress`) only `cli` calls.
"""
