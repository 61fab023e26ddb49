"""What every operator does with its axes: one row each, in einops-like notation.

Uses `graph` and below. `spec` says what a row can say, `families` holds the rows, `table` is all
of them, `factors` reads a row at one node; `registration` takes rows from users.
"""
