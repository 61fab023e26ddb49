"""What follows from the graph and the sizes of its inputs: shapes, small values, ranges.

Uses `operators` and below; reads no weights.
"""
