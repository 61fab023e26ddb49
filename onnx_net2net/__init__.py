"""Grow trained ONNX models without changing what they compute: Net2Net on any real file."""
