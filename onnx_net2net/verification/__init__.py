"""Are two models the same function? Layers of checks that know nothing of growing.

Uses `inference` and below, never `coupling` or `growth`: two independent readings of ONNX.
"""
