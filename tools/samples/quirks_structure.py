"""Sample models, one per way of moving channels: joins, splits, layouts, computed shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from tools.samples.graph_builder import Net, quirk


@quirk
def concat_constant() -> onnx.ModelProto:
    """Inception-like Concat of two branches and constants; the batch is fixed at 1."""
    net = Net("concat_constant")
    x = net.input("x", 1, 3, 8, 8)
    a = net.conv_bn_relu(x, "branch_a", 3, 6, 1)
    b = net.conv_bn_relu(net.conv_bn_relu(x, "branch_b0", 3, 4, 1), "branch_b1", 4, 5)
    pool = net.op("MaxPool", x, kernel_shape=[3, 3], pads=[1] * 4, strides=[1, 1])
    grid = net.draw("grid", 1, 2, 8, 8)
    h = net.op("Concat", a, grid, b, pool, axis=1)
    return net.head(net.conv_bn_relu(h, "mix", 16, 8), 8).model()


@quirk
def concat_zeros() -> onnx.ModelProto:
    """Channels padded with computed zeros (ConstantOfShape into Concat) before a residual Add."""
    net = Net("concat_zeros")
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv_bn_relu(x, "stem", 3, 6)
    sizes = [net.dim(h, 0), net.const("extra", [4]), net.dim(h, 2), net.dim(h, 3)]
    zeros = net.op("ConstantOfShape", net.op("Concat", *sizes, axis=0))
    wide = net.op("Concat", h, zeros, axis=1)
    h = net.op("Relu", net.op("Add", wide, net.conv(h, "conv", 6, 10)))
    return net.head(h, 10).model()


@quirk
def channel_pad() -> onnx.ModelProto:
    """ResNet's option-A shortcut: strided Slice, then Pad on the channel axis."""
    net = Net("channel_pad")
    x = net.input("x", "N", 3, 12, 12)
    h = net.conv_bn_relu(x, "stem", 3, 6)
    ends = net.const("ends", [2**31 - 1] * 2)
    axes, steps = net.const("axes", [2, 3]), net.const("steps", [2, 2])
    shortcut = net.op("Slice", h, net.const("starts", [0, 0]), ends, axes, steps)
    shortcut = net.op("Pad", shortcut, net.const("pads", [0, 3, 0, 0, 0, 3, 0, 0]))
    main = net.conv(net.conv_bn_relu(h, "conv1", 6, 12, strides=[2, 2]), "conv2", 12, 12)
    return net.head(net.op("Relu", net.op("Add", main, shortcut)), 12).model()


@quirk
def channel_shuffle() -> onnx.ModelProto:
    """Channel shuffle twice: shapes from literals, and C/g computed by Shape, Gather and Div."""
    net = Net("channel_shuffle")
    x = net.input("x", "N", 3, 8, 8)
    h = net.conv_bn_relu(x, "stem", 3, 12)
    h = net.conv(h, "grouped1", 12, 12, 1, group=3)
    h = net.op("Reshape", h, net.const("split", [-1, 3, 4, 8, 8]))
    h = net.op("Transpose", h, perm=[0, 2, 1, 3, 4])
    h = net.op("Reshape", h, net.const("merge", [-1, 12, 8, 8]))
    h = net.op("Relu", net.conv(h, "grouped2", 12, 12, group=3, bias=False))
    groups = net.const("groups", [2])
    batch, channels, height, width = (net.dim(h, k) for k in range(4))
    sizes = [batch, groups, net.op("Div", channels, groups), height, width]
    y = net.op("Reshape", h, net.op("Concat", *sizes, axis=0))
    y = net.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    rest = net.op("Concat", batch, net.const("any", [-1]), height, width, axis=0)
    y = net.op("Reshape", y, rest)
    return net.head(net.conv_bn_relu(y, "mix", 12, 8, 1), 8).model()


@quirk
def depth_to_space() -> onnx.ModelProto:
    """DepthToSpace in both modes and SpaceToDepth; channels in blocks of four."""
    net = Net("depth_to_space")
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv_bn_relu(x, "conv1", 3, 16)
    h = net.op("DepthToSpace", h, blocksize=2, mode="CRD")
    h = net.conv_bn_relu(h, "conv2", 4, 5)
    h = net.op("SpaceToDepth", h, blocksize=2)
    h = net.conv_bn_relu(h, "conv3", 20, 12)
    h = net.op("DepthToSpace", h, blocksize=2, mode="DCR")
    return net.head(net.conv(h, "conv4", 3, 6), 6).model()


@quirk
def unet() -> onnx.ModelProto:
    """U-Net: Resize to scales and to a computed size, Pad, crop by Slice, skip Concat."""
    net = Net("unet")
    x = net.input("x", "N", 3, "H", "W")
    top = net.conv_bn_relu(x, "down0", 3, 6)
    mid = net.op("MaxPool", top, kernel_shape=[2, 2], strides=[2, 2])
    mid = net.conv_bn_relu(mid, "down1", 6, 10)
    low = net.op("MaxPool", mid, kernel_shape=[2, 2], strides=[2, 2])
    low = net.conv_bn_relu(low, "bottom", 10, 14)
    sizes = net.op(
        "Concat", net.dim(low, 0), net.const("c14", [14]), net.dim(mid, 2), net.dim(mid, 3), axis=0
    )
    linear: dict[str, Any] = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    up = net.op("Resize", low, "", "", sizes, **linear)
    h = net.conv_bn_relu(net.op("Concat", mid, up, axis=1), "up1", 24, 8)
    h = net.op("Resize", h, "", net.const("scales", [1, 1, 2, 2], np.float32), mode="nearest")
    h = net.op("Pad", h, net.const("pads", [0, 0, 1, 1, 0, 0, 1, 1]), mode="reflect")
    space = net.const("space", [2, 3])
    h = net.op("Slice", h, net.const("one", [1, 1]), net.const("end", [-1, -1]), space)
    corner = [net.const("origin", [0, 0]), net.op("Concat", net.dim(h, 2), net.dim(h, 3), axis=0)]
    skip = net.op("Slice", top, *corner, space)
    h = net.conv_bn_relu(net.op("Concat", h, skip, axis=1), "up0", 14, 6)
    return net.output(
        "mask", net.op("Sigmoid", net.conv(h, "head", 6, 2, 1)), "N", 2, "h", "w"
    ).model()


@quirk
def channel_split() -> onnx.ModelProto:
    """Split with sizes, Slice and Gather with constant indices, all on the channel axis."""
    net = Net("channel_split")
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv_bn_relu(x, "stem", 3, 12)
    a, b = net.op("Split", h, net.const("sizes", [5, 7]), n=2, axis=1)
    h = net.op("Concat", net.conv_bn_relu(a, "conv_a", 5, 6), b, axis=1)
    axis = net.const("axis", [1])
    front = net.op("Slice", h, net.const("zero", [0]), net.const("nine", [9]), axis)
    back = net.op("Slice", h, net.const("nine_", [9]), net.const("end", [2**63 - 1]), axis)
    h = net.op("Add", net.conv(front, "conv_front", 9, 8), net.conv(back, "conv_back", 4, 8))
    h = net.op("Gather", net.op("Relu", h), net.const("order", [3, 0, 7, 5, 1, 6]), axis=1)
    one = net.op("Gather", h, net.const("fourth", 4), axis=1)
    one = net.op("Unsqueeze", one, axis)
    return net.head(net.op("Mul", net.conv(h, "mix", 6, 7), one), 7).model()


@quirk
def glu_halves() -> onnx.ModelProto:
    """GLU with its halves cut at run time: Shape, Gather, Add, Div, Mul and two Slices."""
    net = Net("glu_halves")
    x = net.input("x", "N", 3, "T")
    h = net.conv(x, "conv1", 3, 16, dims=1)
    one, two, axis = net.const("one", [1]), net.const("two", [2]), net.const("axis", [1])
    half = net.op("Div", net.op("Add", net.dim(h, 1), one), two)
    first = net.op("Slice", h, net.const("zero", [0]), net.op("Mul", half, one), axis)
    second = net.op("Slice", h, half, net.op("Mul", half, two), axis)
    h = net.op("Mul", first, net.op("Sigmoid", second))
    return net.output("y", net.conv(h, "conv2", 8, 4, dims=1), "N", 4, "T").model()


@quirk
def nhwc_tf() -> onnx.ModelProto:
    """tf2onnx: NHWC input, Transposes round each Conv, bias and BN as Add and Mul in NHWC."""
    net = Net("nhwc_tf", opset=13)
    h = net.input("input_1:0", "unk__1", 12, 12, 3)
    residual, channels = "", 3
    for k, width in enumerate([8, 12, 12]):
        h = net.op("Transpose", h, perm=[0, 3, 1, 2])
        w = net.weight(
            f"model/conv2d_{k}/Conv2D/ReadVariableOp:0", width, channels, 3, 3, fan_in=channels * 9
        )
        h = net.op("Conv", h, w, at=f"model/conv2d_{k}", auto_pad="SAME_UPPER", kernel_shape=[3, 3])
        h = net.op("Transpose", h, perm=[0, 2, 3, 1])
        h = net.op("Add", h, net.draw(f"model/conv2d_{k}/BiasAdd:0", width))
        h = net.op("Mul", h, net.draw(f"model/bn_{k}/mul:0", 1, 1, 1, width, low=0.5, high=1.5))
        h = net.op("Sub", h, net.draw(f"model/bn_{k}/sub:0", width))
        h = net.op("Add", h, residual) if k == 2 else net.op("Relu", h)
        residual, channels = h, width
    h = net.op("Reshape", h, net.const("const_flat", [-1, 12 * 12 * 12]))
    w = net.weight("model/dense/MatMul/ReadVariableOp:0", 1728, 10, fan_in=1728)
    h = net.op("Relu", net.op("Add", net.op("MatMul", h, w), net.draw("model/dense/BiasAdd:0", 10)))
    w = net.weight("model/dense_1/MatMul/ReadVariableOp:0", 10, 5, fan_in=10)
    y = net.op("Add", net.op("MatMul", h, w), net.draw("model/dense_1/BiasAdd:0", 5))
    return net.output("Identity:0", y, "unk__1", 5).model()


@quirk
def flatten_gemm() -> onnx.ModelProto:
    """LeNet-like: a feature map flattened into Gemm, by Flatten."""
    net = Net("flatten_gemm")
    x = net.input("x", "N", 1, 12, 12)
    h = net.op(
        "MaxPool", net.op("Relu", net.conv(x, "conv1", 1, 6)), kernel_shape=[2, 2], strides=[2, 2]
    )
    h = net.op("Flatten", net.op("Relu", net.conv(h, "conv2", 6, 8)))
    h = net.op("Relu", net.gemm(h, "fc1", 8 * 36, 16))
    return net.output("logits", net.gemm(h, "fc2", 16, 5), "N", 5).model()


@quirk
def reshape_matmul() -> onnx.ModelProto:
    """A feature map reshaped into MatMul by a constant that holds the channel count."""
    net = Net("reshape_matmul")
    x = net.input("x", "N", 2, 6, 6)
    h = net.op("Relu", net.conv(x, "conv1", 2, 7))
    h = net.op("Reshape", h, net.const("val_3", [-1, 7 * 36]), allowzero=1)
    w = net.weight("val_4", 7 * 36, 11, fan_in=252)
    h = net.op("Relu", net.op("Add", net.op("MatMul", h, w, at="fc1"), net.draw("fc1.bias", 11)))
    h = net.op("Squeeze", net.op("Unsqueeze", h, net.const("two", [2])), net.const("last", [-1]))
    return net.output("y", net.gemm(h, "fc2", 11, 4), "N", 4).model()


@quirk
def computed_shapes() -> onnx.ModelProto:
    """Reshapes by Shape, Gather and Concat with a literal channel count, size open."""
    net = Net("computed_shapes")
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv_bn_relu(x, "conv1", 3, 9)
    area = net.op("Mul", net.dim(h, 2), net.dim(h, 3))
    rows = net.op("Concat", net.dim(h, 0), net.const("c9", [9]), area, axis=0)
    h3 = net.op("Transpose", net.op("Reshape", h, rows), perm=[0, 2, 1])
    w = net.weight("onnx::MatMul_50", 9, 10, fan_in=9)
    h3 = net.op("Add", net.draw("proj.bias", 10), net.op("MatMul", h3, w, at="proj"))
    h3 = net.op("Transpose", net.op("Relu", h3), perm=[0, 2, 1])
    back = net.op(
        "Concat", net.dim(x, 0), net.const("c10", [10]), net.dim(x, 2), net.dim(x, 3), axis=0
    )
    h = net.conv_bn_relu(net.op("Reshape", h3, back), "conv2", 10, 8)
    flat = net.op("Concat", net.dim(h, 0), net.const("rest", [-1]), axis=0)
    h = net.op("Reshape", net.op("GlobalAveragePool", h), flat)
    return net.output("logits", net.gemm(h, "fc", 8, 5), "N", 5).model()


@quirk
def expand_tile() -> onnx.ModelProto:
    """Expand of a gate to a computed size, Tile over space, Expand of a learned vector."""
    net = Net("expand_tile")
    x = net.input("x", "N", 3, "H", "W")
    h = net.conv_bn_relu(x, "conv1", 3, 8)
    gate = net.op("Sigmoid", net.conv(net.op("GlobalAveragePool", h), "gate", 8, 8, 1))
    h = net.op("Mul", h, net.op("Expand", gate, net.op("Shape", h)))
    sizes = net.op(
        "Concat", net.dim(h, 0), net.const("c8", [8]), net.dim(h, 2), net.dim(h, 3), axis=0
    )
    h = net.op("Add", h, net.op("Expand", net.draw("token", 1, 8, 1, 1), sizes))
    h = net.op("Tile", h, net.const("repeats", [1, 1, 2, 1]))
    h = net.op("Relu", net.conv(h, "conv2", 8, 6))
    return net.head(net.op("Tile", h, net.const("twice", [1, 2, 1, 1])), 12).model()
