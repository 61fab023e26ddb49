"""The graph as stored: nodes, scopes, functions, and the one editor of them.

Uses `files` and below. Knows no operator's meaning.
"""
