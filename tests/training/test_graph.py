"""A rewritten graph computes the same, with nothing that ONNX Runtime is slow at."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

from plateblur.detector import near_model, shipped_model
from training.graph import faster, main, whole_weights

RANDOM = np.random.default_rng(0)
SIDE = 8  # of the input, pixels


def conv(name: str, of: str, into: str, *, padded: int = 0) -> NodeProto:
    return helper.make_node(
        "Conv", [of, f"{name}.weight", f"{name}.bias"], [into], name, pads=[padded] * 4
    )


def weights(name: str, outputs: int, inputs: int, side: int = 1) -> list[TensorProto]:
    drawn = RANDOM.normal(size=(outputs, inputs, side, side)).astype(np.float32)
    bias = RANDOM.normal(size=outputs).astype(np.float32)
    return [
        numpy_helper.from_array(drawn, f"{name}.weight"),
        numpy_helper.from_array(bias, f"{name}.bias"),
    ]


def silu(of: str, into: str) -> list[NodeProto]:
    return [
        helper.make_node("Sigmoid", [of], [f"{into}.sigmoid"]),
        helper.make_node("Mul", [of, f"{into}.sigmoid"], [into]),
    ]


def split(of: str, *into: str) -> NodeProto:
    return helper.make_node("Split", [of, "sizes"], into, axis=1)


def model_of(nodes: list[NodeProto], constants: list[TensorProto]) -> onnx.ModelProto:
    sizes = numpy_helper.from_array(np.array([3, 5], np.int64), "sizes")
    twice = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "twice")
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 4, SIDE, SIDE])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["n", "c", "h", "w"])
    graph = helper.make_graph(nodes, "g", [images], [output], [sizes, twice, *constants])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    made.metadata_props.add(key="names", value="{0: 'plate'}")
    return made


def split_model() -> onnx.ModelProto:
    """Return a convolution whose parts are used apart, and joined again."""
    nodes = [
        conv("first", "images", "a", padded=1), *silu("a", "b"), split("b", "left", "right"),
        conv("second", "right", "c"),
        helper.make_node("Concat", ["left", "right", "c"], ["output"], axis=1),
    ]  # fmt: skip
    return model_of(nodes, [*weights("first", 8, 4, 3), *weights("second", 2, 5)])


def enlarging_model(mode: str = "nearest") -> onnx.ModelProto:
    """Return a 1x1 convolution over a map at full size and one at half, and a split behind it."""
    nodes = [
        conv("large", "images", "a"),
        helper.make_node("MaxPool", ["images"], ["small"], kernel_shape=[2, 2], strides=[2, 2]),
        conv("deep", "small", "b"),
        helper.make_node("Resize", ["b", "", "twice"], ["c"], mode=mode,
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        helper.make_node("Concat", ["c", "a"], ["d"], axis=1),
        conv("over both", "d", "e"), *silu("e", "f"), split("f", "left", "right"),
        helper.make_node("Concat", ["right", "left"], ["output"], axis=1),
    ]  # fmt: skip
    constants = [*weights("large", 3, 4), *weights("deep", 2, 4), *weights("over both", 8, 5)]
    return model_of(nodes, constants)


def answer(model: onnx.ModelProto, image: NDArray[np.float32]) -> NDArray[np.float32]:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    output: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: image})[0]
    return output


def counted(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


@pytest.mark.parametrize("model", [split_model(), enlarging_model()], ids=["split", "enlarging"])
def test_a_rewritten_model_computes_the_same(model: onnx.ModelProto) -> None:
    rewritten = faster(model)
    assert counted(rewritten)["Conv"] > counted(model)["Conv"]
    assert counted(rewritten)["Split"] == 0
    image = RANDOM.normal(size=(1, 4, SIDE, SIDE)).astype(np.float32)
    np.testing.assert_allclose(answer(rewritten, image), answer(model, image), rtol=0, atol=1e-5)
    assert list(rewritten.metadata_props) == list(model.metadata_props)


@pytest.mark.parametrize("model", [split_model(), enlarging_model()], ids=["split", "enlarging"])
def test_a_model_is_rewritten_once(model: onnx.ModelProto) -> None:
    once = faster(model)
    assert faster(once).SerializeToString() == once.SerializeToString()


@pytest.mark.parametrize("model", [split_model(), enlarging_model()], ids=["split", "enlarging"])
def test_training_finds_the_weights_of_a_rewritten_model_as_they_were(
    model: onnx.ModelProto,
) -> None:
    whole, before = whole_weights(faster(model)), constants(model)
    for name in before:
        if name.endswith((".weight", ".bias")):
            np.testing.assert_array_equal(whole[name], before[name])


def test_the_small_map_is_enlarged_after_its_convolution() -> None:
    rewritten = faster(enlarging_model())
    makers = {name: node for node in rewritten.graph.node for name in node.output}
    enlarged = [node for node in rewritten.graph.node if node.op_type == "Resize"]
    assert [makers[node.input[0]].op_type for node in enlarged] == ["Conv", "Conv"]
    assert counted(rewritten)["Concat"] == 1  # the last one


def untouched() -> dict[str, onnx.ModelProto]:
    twice_used = split_model()
    twice_used.graph.node[-1].input.append("b")  # the whole map is needed too
    grouped = split_model()
    grouped.graph.node[0].attribute.append(helper.make_attribute("group", 2))
    narrow = weights("first", 8, 2, 3)
    kept = [one for one in grouped.graph.initializer if not one.name.startswith("first")]
    del grouped.graph.initializer[:]
    grouped.graph.initializer.extend([*kept, *narrow])
    return {"used whole": twice_used, "in groups": grouped}


@pytest.mark.parametrize("model", untouched().values(), ids=untouched())
def test_a_split_that_must_stay_stays(model: onnx.ModelProto) -> None:
    assert counted(faster(model)) == counted(model)


def test_pixels_that_are_interpolated_are_enlarged_first() -> None:
    before = enlarging_model("linear")
    rewritten = faster(before)
    assert counted(rewritten)["Concat"] == counted(before)["Concat"]


def test_a_file_is_rewritten_in_place(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(split_model(), path)
    main([str(path)])
    assert counted(onnx.load(path))["Split"] == 0


@pytest.mark.slow
@pytest.mark.skipif(not shipped_model().is_file(), reason="no model is shipped yet")
@pytest.mark.parametrize("kind", ["plates", "near"])
def test_the_shipped_models_find_the_same_when_rewritten(kind: str) -> None:
    path = shipped_model() if kind == "plates" else near_model(shipped_model())
    if path is None:
        pytest.skip("no network for near plates is shipped")
    model = onnx.load(path)
    rewritten = faster(model)
    shapes = [(1, 3, 224, 384), (2, 3, 96, 64)]
    for shape in shapes:
        batch = RANDOM.random(shape, np.float32)
        np.testing.assert_allclose(
            answer(rewritten, batch), answer(model, batch), rtol=0, atol=0.02
        )
    whole = whole_weights(rewritten)
    for name, values in constants(model).items():
        if name.endswith((".weight", ".bias")):
            np.testing.assert_array_equal(whole[name], values)
