"""How each operator names its outputs, read from the ONNX text and not from `operators`."""
