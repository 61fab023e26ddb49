"""The graph as stored: nodes, scopes, functions, and the one editor of them.

Uses `files`. Knows no operator's meaning.
"""
