"""The certificate on inserted layers and larger kernels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from onnx import ModelProto, numpy_helper

import onnx_net2net as n2n
from support.certificate_samples import certificate, changed, sample, students


class TestLayersThatDoNothing:
    NAMES = ("digits_cnn", "mlp_gemm", "nhwc_tf", "conv_depthwise", "transformer_block")

    def deeper(self, name: str, ops: str = "Relu Clip Gemm") -> Iterator[ModelProto]:
        teacher = sample(name)
        for node in [n for n in teacher.graph.node if n.op_type in ops.split()][:3]:
            for batchnorm in (False, True):
                yield n2n.deepen(teacher, after=node.output[0], batchnorm=batchnorm, verify="off")  # type: ignore[misc]

    @pytest.mark.parametrize("name", NAMES)
    def test_deeper_students(self, name: str) -> None:
        for student in self.deeper(name):
            assert certificate(sample(name), student)

    @pytest.mark.parametrize("name", ["digits_cnn", "nhwc_tf", "conv_depthwise"])
    def test_no_fault_in_one_passes(self, name: str) -> None:
        for student in self.deeper(name, "Relu Clip"):
            names = {c.name for c in changed(sample(name), student)}
            for at, t in enumerate(student.graph.initializer):
                if t.name not in names:
                    continue
                wrong = ModelProto()
                wrong.CopyFrom(student)
                values = numpy_helper.to_array(t).copy()
                values.reshape(-1)[-1] += np.float32(1e-3)
                wrong.graph.initializer[at].CopyFrom(numpy_helper.from_array(values, t.name))
                assert not certificate(sample(name), wrong), t.name

    @pytest.mark.parametrize("name", ["digits_cnn", "identity_bias", "conv_transpose", "conv1d"])
    def test_larger_kernels(self, name: str) -> None:
        teacher = sample(name)
        for node in [n for n in teacher.graph.node if n.op_type.startswith("Conv")][:2]:
            student = n2n.grow_kernel(teacher, node=node.name, size=7, verify="off")
            assert isinstance(student, ModelProto)
            assert certificate(teacher, student)
            t = changed(teacher, student)[0]
            values = numpy_helper.to_array(t).copy()
            values.reshape(-1)[0] = 1e-3
            t.CopyFrom(numpy_helper.from_array(values, t.name))
            assert not certificate(teacher, student)

    def test_wider_after_deeper(self) -> None:
        teacher = sample("digits_cnn")
        deeper = next(self.deeper("digits_cnn"))
        for space, student, _ in students(deeper, most=4):
            assert certificate(deeper, student), space
            assert certificate(teacher, student), space
