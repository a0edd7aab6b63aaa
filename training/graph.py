"""Rewrite an export so that ONNX Runtime runs it faster on a CPU, with the same result.

    python -m training.graph plateblur/models/plates.onnx

`training/export.py` does this to each export; the command does it to a file that was exported
before, in place. Two things are rewritten. Both are exact but for the order of sums, which moves a
box by less than a thousandth of a pixel:

- A convolution whose channels are split right behind it becomes one convolution for each part.
  ONNX Runtime computes in blocks of channels (NCHWc) and has no Split for them, so it would turn
  the whole map into rows of pixels and back.
- A 1x1 convolution over an enlarged map and another one becomes two, and the first runs before the
  map is enlarged, on a quarter of the pixels. The joint map is never written.

`benchmarks/engines.py` measures what that saves.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

from training.checkout import run_step

Floats = NDArray[np.float32]


# Weights that were cut are named after the whole, with the number of the part.
OUTPUTS, INPUTS = "#outputs", "#inputs"
AXES = {INPUTS: 1, OUTPUTS: 0}  # of a convolution's weights; those cut last come first


def faster(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return `model` rewritten; one that was rewritten before comes back as it is.

    Args:
        model: as `training/export.py` writes it, metadata included.
    """
    rewritten = onnx.ModelProto()
    rewritten.CopyFrom(model)
    graph = _Graph(rewritten)
    for split in graph.of_type("Split"):
        _split_first(graph, split)
    for joined in graph.of_type("Concat"):
        _enlarge_last(graph, joined)
    graph.write_back()
    onnx.checker.check_model(rewritten)
    return rewritten


def whole_weights(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return the constants of a model by the names they had before it was rewritten."""
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for mark, axis in AXES.items():
        parts: dict[str, dict[int, NDArray[Any]]] = {}
        for name in [name for name in arrays if mark in name]:
            whole, _, number = name.rpartition(mark)
            parts.setdefault(whole, {})[int(number)] = arrays.pop(name)
        for whole, each in parts.items():
            arrays[whole] = np.concatenate([each[number] for number in sorted(each)], axis=axis)
    return arrays


class _Graph:
    """A graph while it is rewritten: its nodes, and the numbers of its constants by their names."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.constants = {
            each.name: numpy_helper.to_array(each) for each in self._graph.initializer
        }
        for node in self.of_type("Constant"):
            if "value" in (known := _attributes(node)):
                self.constants[node.output[0]] = numpy_helper.to_array(known["value"])

    def of_type(self, op_type: str) -> list[NodeProto]:
        return [node for node in self.nodes if node.op_type == op_type]

    def maker(self, name: str) -> NodeProto | None:
        """Return the node that computes a tensor; None for inputs and constants."""
        return next((node for node in self.nodes if name in node.output), None)

    def users(self, name: str) -> list[NodeProto]:
        return [node for node in self.nodes if name in node.input]

    def add_constant(self, name: str, values: Floats) -> str:
        self.constants[name] = values
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def replace(self, old: Sequence[NodeProto], new: Sequence[NodeProto]) -> None:
        place = self.nodes.index(old[-1])
        self.nodes[place:place] = new
        for node in old:
            self.nodes.remove(node)

    def channels(self, name: str) -> int | None:
        """Return how many channels a map has that a convolution makes; None for other tensors."""
        node = self.maker(name)
        if node is None:
            return None
        if node.op_type == "Conv":
            return len(self.constants[node.input[1]])
        if node.op_type == "Concat":
            parts = [self.channels(each) for each in node.input]
            return None if None in parts else sum(part or 0 for part in parts)
        if node.op_type in ("Add", "MaxPool", "Mul", "Resize", "Sigmoid"):
            return self.channels(node.input[0])
        return None

    def write_back(self) -> None:
        """Put the nodes that are still needed back, each after those that it needs."""
        outputs = {each.name for each in self._graph.output}
        while len(needed := list(self._needed(outputs))) < len(self.nodes):
            self.nodes = needed
        used = {name for node in self.nodes for name in node.input}
        kept = [each for each in self._graph.initializer if each.name in used]
        made = {"", *(each.name for each in (*kept, *self._graph.input))}
        ordered: list[NodeProto] = []
        waiting = self.nodes
        while waiting:
            ready = [node for node in waiting if made.issuperset(node.input)]
            if not ready:
                raise ValueError("expected a graph without circles")
            ordered += ready
            made.update(name for node in ready for name in node.output)
            waiting = [node for node in waiting if not made.issuperset(node.output)]
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(ordered)
        self._graph.initializer.extend(kept)

    def _needed(self, outputs: set[str]) -> Iterator[NodeProto]:
        used = outputs | {name for node in self.nodes for name in node.input}
        return (node for node in self.nodes if used.intersection(node.output))


def _split_first(graph: _Graph, split: NodeProto) -> None:
    """Replace a convolution, its SiLU and their split by a convolution and a SiLU for each part."""
    if _attributes(split).get("axis") != 1 or len(split.input) < 2:
        return
    last = graph.maker(split.input[0])
    if last is None or len(graph.users(split.input[0])) != 1:
        return
    old = [*_silu_and_its_conv(graph, last), split]
    conv = old[0]
    if conv.op_type != "Conv" or len(conv.input) != 3 or _attributes(conv).get("group", 1) != 1:
        return
    weights, bias = graph.constants[conv.input[1]], graph.constants[conv.input[2]]
    ends = np.cumsum(graph.constants[split.input[1]]).tolist()
    new = []
    for part, (start, end, output) in enumerate(zip([0, *ends], ends, split.output, strict=False)):
        name = f"{conv.name}/part{part}"
        result = output if len(old) == 2 else f"{name}/result"
        inputs = [
            conv.input[0],
            graph.add_constant(f"{conv.input[1]}{OUTPUTS}{part}", weights[start:end]),
            graph.add_constant(f"{conv.input[2]}{OUTPUTS}{part}", bias[start:end]),
        ]
        new.append(_like(conv, inputs, result, name))
        if len(old) > 2:
            new += [
                helper.make_node("Sigmoid", [result], [f"{name}/sigmoid"], f"{name}/Sigmoid"),
                helper.make_node("Mul", [result, f"{name}/sigmoid"], [output], f"{name}/Mul"),
            ]
    graph.replace(old, new)


def _silu_and_its_conv(graph: _Graph, last: NodeProto) -> list[NodeProto]:
    """Return convolution, sigmoid and product, if `last` is such a product; else `last` alone."""
    if last.op_type != "Mul":
        return [last]
    makers = [graph.maker(name) for name in last.input]
    for sigmoid, conv in (makers, makers[::-1]):
        if (
            sigmoid is not None
            and conv is not None
            and sigmoid.op_type == "Sigmoid"
            and conv.op_type == "Conv"
            and list(sigmoid.input) == list(conv.output)
            and len(graph.users(conv.output[0])) == 2
            and len(graph.users(sigmoid.output[0])) == 1
        ):
            return [conv, sigmoid, last]
    return [last]


def _enlarge_last(graph: _Graph, joined: NodeProto) -> None:
    """Replace the 1x1 convolutions over an enlarged map and another by one over each, and a sum."""
    makers = [graph.maker(name) for name in joined.input]
    users = graph.users(joined.output[0])
    if _attributes(joined).get("axis") != 1 or len(makers) != 2 or not users:
        return
    enlarged = next((node for node in makers if node is not None and _is_nearest(node)), None)
    sizes = [graph.channels(name) for name in joined.input]
    if enlarged is None or None in sizes or not all(_is_1x1(graph, user) for user in users):
        return
    place = makers.index(enlarged)
    first = sizes[0] or 0
    for conv in users:
        weights = graph.constants[conv.input[1]]
        parts = [weights[:, :first], weights[:, first:]]
        small, other = f"{conv.name}/small", f"{conv.name}/other"
        names = [
            graph.add_constant(f"{conv.input[1]}{INPUTS}{part}", each)
            for part, each in enumerate(parts)
        ]
        over_small = [enlarged.input[0], names[place]]
        over_other = [joined.input[1 - place], names[1 - place], *conv.input[2:]]
        large = f"{small}/large"
        new = [
            _like(conv, over_small, f"{small}/result", small),
            _like(enlarged, [f"{small}/result", *enlarged.input[1:]], large, f"{small}/Resize"),
            _like(conv, over_other, f"{other}/result", other),
            helper.make_node(
                "Add", [f"{other}/result", large], [conv.output[0]], f"{conv.name}/Add"
            ),
        ]
        graph.replace([conv], new)


def _is_nearest(node: NodeProto) -> bool:
    """Return whether a node enlarges a map by repeating its pixels, which changes no value."""
    return node.op_type == "Resize" and _attributes(node).get("mode", b"nearest") == b"nearest"


def _is_1x1(graph: _Graph, node: NodeProto) -> bool:
    if node.op_type != "Conv" or _attributes(node).get("group", 1) != 1:
        return False
    known = _attributes(node)
    plain = set(known.get("strides", [1])) == {1} and not any(known.get("pads", []))
    return plain and graph.constants[node.input[1]].shape[2:] == (1, 1)


def _like(node: NodeProto, inputs: Sequence[str], output: str, name: str) -> NodeProto:
    """Return a node with another's attributes."""
    made = helper.make_node(node.op_type, inputs, [output], name)
    made.attribute.extend(node.attribute)
    return made


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the command line and rewrite a file."""
    parser = argparse.ArgumentParser(description="Rewrite a model so that it runs faster.")
    parser.add_argument("model", type=Path, help="ONNX file of training/export.py, in place")
    given = parser.parse_args(argv)
    before = onnx.load(given.model)
    after = faster(before)
    onnx.save(after, given.model)
    sys.stdout.write(f"{len(before.graph.node)} nodes became {len(after.graph.node)}\n")


if __name__ == "__main__":
    run_step(main)
