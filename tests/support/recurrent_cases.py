"""Cases for recurrent layers and the classical operators; see `operator_cases`."""

from __future__ import annotations

from typing import Any

from support.operator_cases import case
from support.single_node import c, w, x

# sequence 3, batch 2, 4 features, 5 units
_X, _X_FIRST, _LENGTHS = x(3, 2, 4), x(2, 3, 4), c([3, 2], dtype="i4")
for _op, _q in (("RNN", 1), ("GRU", 3), ("LSTM", 4)):
    _rows = _q * 5
    case(_op, "-ps -ps -pp > --pp -pp", _X, w(1, _rows, 4),
         w(1, _rows, 5), outputs=2, hidden_size=5)  # fmt: skip
    case(_op, "-ps -ps -pp -p p -pp > --pp -pp", _X, w(1, _rows, 4), w(1, _rows, 5),
         w(1, 2 * _rows), _LENGTHS, x(1, 2, 5), outputs=2, hidden_size=5)  # fmt: skip
    case(_op, "-ps -ps -pp -p > --pp -pp", _X, w(2, _rows, 4), w(2, _rows, 5),
         w(2, 2 * _rows), outputs=2, hidden_size=5, direction="bidirectional")  # fmt: skip
    case(_op, "p-s -ps -pp -p > p--p p-p", _X_FIRST, w(1, _rows, 4), w(1, _rows, 5),
         w(1, 2 * _rows), outputs=2, hidden_size=5, layout=1)  # fmt: skip
case("GRU", "-ps -ps -pp -p > --pp -pp", _X, w(1, 15, 4), w(1, 15, 5), w(1, 30), outputs=2,
     hidden_size=5, linear_before_reset=1)  # fmt: skip
case("LSTM", "-ps -ps -pp -p _ -pp -pp -p > --pp -pp -pp", _X, w(1, 20, 4), w(1, 20, 5),
     w(1, 40), None, x(1, 2, 5), x(1, 2, 5), w(1, 15), outputs=3, hidden_size=5)  # fmt: skip

case("ai.onnx.ml.LabelEncoder", "pp > pp", x(2, 5, low=0, high=3, dtype="i8"),
     keys_int64s=[0, 1, 2, 3], values_int64s=[7, 5, 4, 9])  # fmt: skip
case("ai.onnx.ml.CategoryMapper", "pp > pp", x(2, 5, low=0, high=1, dtype="i8"),
     cats_int64s=[0, 1], cats_strings=["a", "b"])  # fmt: skip
case("ai.onnx.ml.Scaler", "-- > --", x(2, 3), offset=[0.1, 0.2, 0.3], scale=[1.0, 2.0, 3.0])
case("ai.onnx.ml.Imputer", "-- > --", x(2, 3), imputed_value_floats=[0.1, 0.2, 0.3],
     replaced_value_float=0.5)  # fmt: skip
case("ai.onnx.ml.Normalizer", "-- > --", x(2, 3), norm="L2")
case("ai.onnx.ml.Binarizer", "pp > pp", x(2, 5), threshold=0.5)

_GATES: Any = {"low": -60, "high": 60, "dtype": "i1"}
_ZERO = c([0], dtype="i1")
case("com.microsoft.DynamicQuantizeLSTM", "-pp -pp -pp -p _ _ _ _ - - - - > --pp -pp -pp", _X,
     w(1, 4, 20, **_GATES), w(1, 5, 20, **_GATES), w(1, 40), None, None, None, None,
     c([0.02], dtype="f4"), _ZERO, c([0.01], dtype="f4"), _ZERO, outputs=3,
     hidden_size=5)  # fmt: skip
case("com.microsoft.DynamicQuantizeLSTM", "-pp -pp -pp -p _ -pp -pp _ -p -p -p -p > --pp -pp -pp",
     _X, w(1, 4, 20, **_GATES), w(1, 5, 20, **_GATES), w(1, 40), None, x(1, 2, 5), x(1, 2, 5), None,
     w(1, 20, low=0.01, high=0.03), w(1, 20, low=0, high=0, dtype="i1"),
     w(1, 20, low=0.01, high=0.03), w(1, 20, low=0, high=0, dtype="i1"), outputs=3,
     hidden_size=5)  # fmt: skip
