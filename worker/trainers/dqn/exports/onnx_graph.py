"""A saved agent as an ONNX graph, written without PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from onnx import TensorProto, checker, helper, numpy_helper

if TYPE_CHECKING:
    from worker.trainers.dqn.saved import Layers, Scaled

# Old enough for every runtime of the last years; the graph needs nothing newer.
_OPSET, _IR_VERSION = 17, 8


def graph_of(layers: Layers, notes: Mapping[str, str], *, scaled: Scaled | None = None) -> bytes:
    """A graph from "observation", float32 [N, O], to "action", int64 [N].

    Args:
        layers: Weights [out, in] and biases [out], ReLU between them.
        notes: The graph's metadata.
        scaled: How the first layer sees the observation; None: as it is.
    """
    nodes, constants, hidden = [], [], "observation"
    if scaled is not None:
        for operation, name, array in (
            ("Sub", "mean", scaled.mean),
            ("Mul", "factor", scaled.factor),
        ):
            constant, result = f"observation.{name}", f"without.{name}"
            constants.append(numpy_helper.from_array(array.reshape(-1), constant))
            nodes.append(helper.make_node(operation, [hidden, constant], [result]))
            hidden = result
    for number, (weight, bias) in enumerate(layers):
        names = [f"q.{number}.weight", f"q.{number}.bias"]
        constants += [
            numpy_helper.from_array(array, name)
            for array, name in zip((weight, bias), names, strict=True)
        ]
        last = number == len(layers) - 1
        values = "q_values" if last else f"sum.{number}"
        nodes.append(helper.make_node("Gemm", [hidden, *names], [values], transB=1))
        if not last:
            hidden = f"hidden.{number}"
            nodes.append(helper.make_node("Relu", [values], [hidden]))
    nodes.append(helper.make_node("ArgMax", ["q_values"], ["action"], axis=1, keepdims=0))
    width = layers[0][0].shape[1]
    observation = helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["N", width])
    action = helper.make_tensor_value_info("action", TensorProto.INT64, ["N"])
    model = helper.make_model(
        helper.make_graph(nodes, "dqn", [observation], [action], constants),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="trialfleet",
    )
    helper.set_model_props(model, dict(notes))
    checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data
