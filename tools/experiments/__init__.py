"""The Net2Net paper's experiments on Fashion-MNIST, through ONNX; needs the extra [paper]."""
