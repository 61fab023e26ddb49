"""What widening costs in time, memory and disk, beside `cp` and onnx-graphsurgeon."""
