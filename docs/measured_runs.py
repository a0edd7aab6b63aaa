"""Fill the marks that show what work took: the service, surveys, clusters, one GPU.

MkDocs calls it after `generate.py`; `measured.py` fills the marks that are left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
MARK = re.compile(r"^<!-- generated: ([a-z0-9-]+) -->$", re.MULTILINE)

PHOTOS = 1000  # that costs are given for
EXAMPLE_RATE = 0.05  # a core-hour, in whatever currency; an example to multiply, no offer
NODES, CORES_A_NODE = 100, 16  # of the cluster that the calculation is for
# Source: Amazon S3 User Guide, "Optimizing Amazon S3 performance": for each prefix of a bucket.
S3_READS, S3_WRITES = 5500, 3500
ENOUGH_PHOTOS = 200  # of a run to tell what it does without start and end


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with each mark that this file knows replaced by what it names."""
    return MARK.sub(
        lambda mark: GENERATED[mark[1]]() if mark[1] in GENERATED else mark[0], markdown
    )


def cost() -> str:
    """Return the processor time of 1,000 photos, and what that costs at an example rate."""
    results = _results("service_load.json")
    rows = []
    for name, milliseconds in results["cpu_ms_a_photo"].items():
        seconds = PHOTOS * milliseconds / 1000
        rows.append(
            [
                {"service": "service, whole request"}.get(name, f"library, `{name}`"),
                f"{milliseconds:g} ms",
                f"{seconds:.0f} s",
                f"{seconds / 3600 * EXAMPLE_RATE:.4f}",
            ]
        )
    header = ["", "a photo", f"{PHOTOS:,} photos", f"at {EXAMPLE_RATE:g} a core-hour"]
    rate = results["photos_a_second"]["service"]
    return (
        f"A {results['photo'].split(',')[0]} of {results['photo'].split(', ')[1]}, measured on "
        f"{results['machine']}. Processor time of all cores together:\n\n{_table(header, rows)}\n\n"
        f"The service did {rate:g} photos a second there, so {PHOTOS:,} photos took "
        f"{PHOTOS / rate:.0f} s. It used {results['rss_mib']['2000']:.0f} MiB of memory."
    )


def survey_cost() -> str:
    """Return how many photos a core does in an hour, on one machine and on Ray."""
    cluster, long = _results("cluster.json"), _results("survey.json")
    rows = []
    for one in [*cluster["side by side"], *cluster["bucket"]]:
        hourly, is_long = one.get("photos a core hour"), one["photos"] >= ENOUGH_PHOTOS
        rows.append(
            [
                one["how"],
                f"{one['photos a second']:g}",
                f"{one['photos a second at work']:g}" if is_long else "",
                "" if hourly is None else f"{hourly:,}",
                "" if hourly is None else f"{100_000 / hourly * EXAMPLE_RATE:.2f}",
                f"{one['busy share at work' if is_long else 'busy share of the machine']:.2f}",
            ]
        )
    here, ray = (
        [
            one["photos a second at work"]
            for one in cluster["side by side"]
            if one["how"].startswith(where)
        ]
        for where in ("this machine", "Ray")
    )
    header = [
        *("", "photos a second", "without start and end", "photos a core hour"),
        *(f"100,000 photos at {EXAMPLE_RATE:g} a core-hour", "share of the cores that was busy"),
    ]
    memory = next(value for name, value in long.items() if name.startswith("memory MB"))
    names = long["nothing to do"]
    return (
        f"Each photo a {cluster['photo']}, on {cluster['machine']}:\n\n{_table(header, rows)}\n\n"
        f"Once at work, two workers do {here[1] / here[0]:.2f} times as much as one, on Ray "
        f"{ray[1] / ray[0]:.2f} times. On Ray, the nodes and the command shared two cores.\n\n"
        f"A run of {long['photos']:,} drawn photos ({', '.join(long['sizes'])} pixels) was killed "
        f"with `kill -9` after {', '.join(f'{n:,}' for n in long['killed after'])} photos and run "
        f"again each time: {long['outputs as their last line says']:,} outputs as the manifest "
        f"says, {long['photos whose turn was cut off by a kill']} photos done again because a kill "
        f"had cut them off. Memory in ten equal parts of the last process: "
        f"{', '.join(map(str, memory[-1]))} MB. The run took {long['seconds']:.0f} s, and one "
        f"with nothing to do {long['seconds of a run with nothing to do']:.1f} s.\n\n"
        f"The list of photos takes {names['KB a photo']:g} KB of memory a photo: a run over "
        f"{names['photos']:,} photos that were all done before took {names['memory MB']} MB."
    )


def cluster_limits() -> str:
    """Return what a cluster of 100 nodes would do, and which part saturates first."""
    cluster = _results("cluster.json")
    on_ray = {one["how"]: one for one in [*cluster["side by side"], *cluster["bucket"]]}
    each = on_ray["Ray, 2 workers"]["photos a second at work"] / 2
    cores = NODES * CORES_A_NODE
    rate = each * cores
    asks = on_ray["S3 to S3, Ray"]["requests a photo"]
    reads = asks.get("GET", 0) + asks.get("HEAD", 0)
    writes = asks.get("PUT", 0) + asks.get("POST", 0)
    parts = cluster["parts"]
    batch, lines = list(parts["manifest lines a second, by lines an fsync"].items())[-1]
    driver_ms = on_ray["S3 to S3, Ray"]["driver CPU ms a photo"]
    message = sum(parts["message bytes"].values())
    moved = parts["photo bytes"] + parts["output bytes"]
    limits = [
        ["the command, one core", f"{driver_ms:g} ms of processor time", 1000 / driver_ms],
        ["the manifest", f"2 lines; {lines:,} a second with {batch} an fsync", lines / 2],
        ["S3, reads of one prefix", f"{reads:g} of {S3_READS:,} a second", S3_READS / reads],
        ["S3, writes of one prefix", f"{writes:g} of {S3_WRITES:,} a second", S3_WRITES / writes],
    ]
    rows = [
        [name, what, f"{most:,.0f}", f"{most / each:,.0f}"]
        for name, what, most in sorted(limits, key=lambda limit: limit[2])
    ]
    first = min(limits, key=lambda limit: limit[2])
    node = rate / NODES * moved / 1e6
    killed, long = cluster["node killed"], cluster["long run"]
    return (
        f"A calculation from measured parts; we had no such cluster. A core does {each:.1f} "
        f"photos a second, so {NODES} nodes of {CORES_A_NODE} cores would do {rate:,.0f}, if "
        "nothing else held them up:\n\n"
        + _table(["part", "a photo takes", "photos a second", "enough for so many cores"], rows)
        + f"\n\n{first[0][0].upper()}{first[0][1:]} is the first to saturate. Photos under "
        "several prefixes (folders) multiply what S3 gives; several commands, each with a folder "
        "and a manifest of its own, multiply the rest.\n\n"
        f"Through Ray go {message:,} bytes for a photo, and none of its pixels: "
        f"{rate * message / 1e6:,.0f} MB a second for all nodes, and the model once for each "
        f"worker. Each node reads and writes {node:,.0f} MB a second of photos "
        f"({moved / 1e6:.2f} MB each).\n\n"
        f"A node was killed after {killed['node killed after']} of {killed['photos']} photos: "
        f"exit code {killed['exit code']}, {killed['outputs as their last line says']} outputs as "
        f"the manifest says, {killed['unfinished files left by kills']} unfinished files.\n\n"
        f"In a run over {long['photos']:,} small photos from and to an S3 server, the command was "
        f"killed with `kill -9` after {long['command killed after']:,} photos and run again, and a "
        f"node was killed after {long['node killed after']:,}: "
        f"{long['outputs as their last line says']:,} outputs as the manifest says, "
        f"{long['photos whose turn was cut off by a kill']} photos done again. It took "
        f"{long['seconds']:.0f} s. Memory of the command in ten equal parts of its time: "
        f"{', '.join(map(str, long['memory MB of the command, 10 equal parts of its time']))} MB."
    )


def cluster_memory() -> str:
    """Return how much memory a run took on one machine and in each worker on Ray."""
    cluster = _results("cluster.json")
    rows = [
        [one["how"], f"{one[name]} MB", what]
        for one in cluster["side by side"]
        for name, what in (("memory MB", "the command"), ("worker MB", "the largest worker"))
        if name in one
    ]
    return f"With {cluster['photo']}:\n\n" + _table(["", "memory", "of"], rows)


def cuda() -> str:
    """Return what one run of the model took through CUDA, and how far it is from the CPU's."""
    results = _results("cuda.json")
    cpu, gpu = results["one look on cpu"], results["one look on cuda"]
    px, confidence = (
        "boxes furthest from the CPU's, px of the input",
        "confidences furthest from the CPU's",
    )
    rows = [
        [name, f"{cpu[name]['median ms']:.1f}", f"{gpu[name]['median ms']:.1f}"]
        + [f"{gpu[name][key]:f}".rstrip("0") for key in (px, confidence)]
        for name in gpu
        if name.startswith("batch of ")
    ]
    header = ["at 896 x 512", "CPU, ms", "CUDA, ms", "boxes differ by, px", "confidences differ by"]
    software, version = results["software"], results["software"]["cuDNN"]
    cut_outs = "1 to 8 cut-outs of the second look"
    return (
        f"One {results['gpu']['name']}, ONNX Runtime {software['ONNX Runtime']} for CUDA "
        f"{software['built for CUDA']}, cuDNN {version // 10000}.{version // 100 % 100}; the CPU "
        f"is that machine's: {results['machine']}. Differences are the largest on drawn scenes:\n\n"
        f"{_table(header, rows)}\n\n"
        f"The first run of an input of another height took "
        f"{_span(gpu['a shape for the first time, ms'])}, of a batch of cut-outs of the second "
        f"look {_span(gpu[f'{cut_outs}, for the first time, ms'])}, and "
        f"{_span(gpu[f'{cut_outs}, again, ms'])} when such batches came again.\n\n"
        f"{_searched_through_cuda(results)}"
    )


def engines() -> str:
    """Return what one run of the model takes on each engine of the CPU."""
    results = _results("engines.json")
    runs, small = results["one run"]["1"], "small look"
    rows = [
        [
            name,
            *(f"{one[name]['cpu_ms']:g}" for one in (runs["1080p photo"], runs[small])),
            *(f"{one[name]['of_cpu_time']:.2f}" for one in (runs["1080p photo"], runs[small])),
        ]
        for name in runs["1080p photo"]
    ]
    header = ["one thread", "896 x 512, ms", "384 x 224, ms", "ratio at 896 x 512", "at 384 x 224"]
    packages = results["packages"]
    return (
        f"{results['machine']}; ONNX Runtime {packages['onnxruntime']}, OpenVINO "
        f"{packages['openvino']}. Processor time of one run:\n\n{_table(header, rows)}"
    )


def engines_found() -> str:
    """Return what each engine hides of val, in one look and as photos are served."""
    found = _results("engines.json")["found"]
    rows = []
    for effort, engines in found.items():
        for name, one in engines.items():
            ranges = [each for each in one.values() if isinstance(each, dict)]
            hidden = [f"{each['hidden']} of {each['plates']}" for each in ranges]
            rows.append([f"`--{effort}`" if effort != "default" else effort, name, *hidden])
            rows[-1].append(str(one["false boxes"]))
    first = next(iter(next(iter(found.values())).values()))
    names = [name for name, each in first.items() if isinstance(each, dict)]
    table = _table(["effort", "engine", *names, "false boxes"], rows)
    return f"{first['photos']} photos of val; hidden means at least 99 % of the plate:\n\n{table}"


def _searched_through_cuda(results: Mapping[str, Any]) -> str:
    cpu, gpu = results["found on cpu"], results.get("found on cuda", {})
    if not gpu.get("photos"):
        return (
            f"Searching {cpu['photos']} photos ({results['split']}) took the CPU "
            f"{cpu['photos'] / cpu['photos a second']:.1f} s. Through CUDA, the search hadn't "
            "finished when our time on that machine was over."
        )
    return (
        f"Of {gpu['of photos']} photos ({results['split']}), CUDA searched {gpu['photos']}, "
        f"{gpu['photos a second']:g} a second, and the CPU {cpu['photos']}, "
        f"{cpu['photos a second']:g} a second. covered99 was {gpu['covered99']:.3f} and "
        f"{cpu['covered99']:.3f}; {gpu['boxes that only one of them has']} boxes were found by "
        "only one of them."
    )


def _span(milliseconds: list[float]) -> str:
    return f"{min(milliseconds):,.0f} to {max(milliseconds):,.0f} ms"


def _results(name: str) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((RESULTS / name).read_text())
    return results


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


GENERATED: dict[str, Callable[[], str]] = {
    "cluster-limits": cluster_limits,
    "cluster-memory": cluster_memory,
    "cost": cost,
    "cuda": cuda,
    "engines": engines,
    "engines-found": engines_found,
    "survey-cost": survey_cost,
}
