"""What follows from the graph and the sizes of its inputs: shapes, small values, ranges.

Uses `operators` and below. Reads no weights for shapes; ranges read those on their way.
"""
