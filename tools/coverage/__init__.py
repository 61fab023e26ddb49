"""Grow every layer of any models in every way and judge each student by running it.

It knows nothing of the engine's rules: which nodes bear weights, and which axes are a model's own
interface, are read from the graph again (`weight_nodes`, `interface_walk`).
"""
