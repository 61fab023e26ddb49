"""Which axes grow together: channel spaces, closed over the factors of every node.

Uses `inference` and below. Never `verification`: what grows does not use what verifies.
"""
