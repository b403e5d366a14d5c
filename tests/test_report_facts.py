"""What a report says of engines that were built and not run, and of recordings."""

from __future__ import annotations

from trtcheck.report.view import facts

RTX = {
    "nodes": 103,
    "types": {"FLOAT16": 81, "INT8": 17, "quantized": 17, "FLOAT": 0},
    "computes": {"stem": "int8", "head": "int8", "tail": "fp16"},
    "engine_bytes": 2_803_244,
    "memory_bytes": None,
    "tensorrt": {"flavour": "tensorrt-rtx", "version": "1.7.1.116"},
    "inspector": None,
    "inspector_note": "not loaded: there is no NVIDIA driver on this machine",
    "profile": {"image": {"min": [1, 3, 8, 8], "opt": [8, 3, 8, 8], "max": [64, 3, 8, 8]}},
    "seconds": 0.512,
}


def told(found: tuple[facts.Fact, ...]) -> dict[str, str]:
    return {fact.term: fact.text.replace("\N{NARROW NO-BREAK SPACE}", " ") for fact in found}


def test_an_engine_that_was_built_besides_is_described():
    found = told(facts.of_beside({"backend": "tensorrt-rtx", "cached": True, "facts": RTX}))
    assert found == {
        "built for": "tensorrt-rtx, from the cache",
        "nodes of the engine": "103",
        "computing in": "81 FLOAT16, 17 INT8, 17 quantized",
        "products computing in": "1 fp16, 2 int8",
        "engine size": "2 803 244 bytes",
        "TensorRT": "tensorrt-rtx 1.7.1.116",
        "engine inspector": "not loaded: there is no NVIDIA driver on this machine",
        "profile": "image 1x3x8x8 / 8x3x8x8 / 64x3x8x8",
        "build time": "0.5 s",
    }
    assert facts.of_beside(None) == ()


def test_what_the_inspector_found_stands_beside_what_was_parsed():
    loaded = {**RTX, "inspector": {"Half": 3, "Int8": 20}, "inspector_note": None, "memory_bytes": 9_000}
    found = told(facts.of_build({"lowered": {}, "facts": loaded}))
    assert found["engine inspector"] == "3 Half, 20 Int8"
    assert found["device memory"] == "9000 bytes"


def test_a_recording_says_where_and_how_it_was_made():
    recorded = {
        "format": "trtexec", "files": 2, "images": 10_000, "device": "Jetson", "runtime": "TensorRT 10.3",
        "precision": "fp16", "outputs": [],
        "times": {"samples": 40, "transfers": True, "latency": {"median_ms": 1.25, "p99_ms": 2.0}},
    }  # fmt: skip
    found = told(facts.of_build({"lowered": {"made_by": "elsewhere"}, "facts": recorded}))
    assert found == {
        "lowered by": "elsewhere",
        "recorded on": "Jetson",
        "recorded with": "TensorRT 10.3",
        "recorded precision": "fp16",
        "format": "trtexec",
        "recorded images": "10 000",
        "recorded samples": "40",
        "recorded transfers": "yes",
        "recorded latency": "median 1.25 ms, p99 2 ms",
    }
