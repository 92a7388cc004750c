"""ONNX operators, one after the other."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["Graph"]

_OPSET = 17
_IR = 9  # what ONNX Runtime reads since 1.16

_TYPES = {"uint8": TensorProto.UINT8, "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE}


class Graph:
    """A graph while it is written: values are known by their names, constants are kept once.

    Attributes
    ----------
    nodes : list of NodeProto
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._known: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def op(self, kind: str, *inputs: str, outputs: int = 1, name: str = "", **attributes: Any) -> Any:
        """Add an operator; gives the name of its output, or a tuple of them."""
        names = [
            name or f"v{len(self.nodes)}" if outputs == 1 else f"v{len(self.nodes)}_{n}"
            for n in range(outputs)
        ]
        self.nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else tuple(names)

    def constant(self, values: Any, dtype: str = "float64") -> str:
        """Keep an array; gives its name."""
        array = np.ascontiguousarray(values, dtype=dtype)
        key = (str(array.dtype), array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = f"c{len(self._constants)}"
            self._constants.append(numpy_helper.from_array(array, self._known[key]))
        return self._known[key]

    def cast(self, value: str, dtype: str) -> str:
        """Change the type of a value."""
        to = TensorProto.FLOAT16 if dtype == "float16" else _TYPES[dtype]
        return self.op("Cast", value, to=to)

    def model(
        self,
        inputs: Mapping[str, tuple[str, list[Any]]],
        outputs: Mapping[str, tuple[str, list[Any]]],
        facts: Mapping[str, str],
        made_by: str,
    ) -> onnx.ModelProto:
        """The whole as a model, checked.

        Parameters
        ----------
        inputs, outputs : mapping of str to (dtype, shape)
            Sizes that are names may be of any size.
        facts : mapping of str to str
            Kept in the file for whoever uses it.
        made_by : str
        """
        described = [
            [
                helper.make_tensor_value_info(name, _TYPES[dtype], shape)
                for name, (dtype, shape) in ends.items()
            ]
            for ends in (inputs, outputs)
        ]
        graph = helper.make_graph(self.nodes, "haemo", *described, initializer=self._constants)
        model = helper.make_model(
            graph, producer_name=made_by, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR
        )
        helper.set_model_props(model, dict(facts))
        onnx.checker.check_model(model)
        return model
