"""Larger convolution windows: the old one in the middle, zeros around it."""
