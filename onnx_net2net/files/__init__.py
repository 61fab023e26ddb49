"""Bytes on disk: reading without payloads, patches, external data, whole-or-nothing writes.

Uses `errors`, `typing` and nothing else of the package. A model is a rope of byte ranges; a
student is its teacher's bytes with splices.
"""
