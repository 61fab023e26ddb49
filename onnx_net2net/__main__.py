"""`python -m onnx_net2net`."""

from onnx_net2net.cli.main import main

main()
