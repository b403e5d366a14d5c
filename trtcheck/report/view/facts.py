"""Facts: terms and what there is to say of them, about the run, a model or an engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from trtcheck import names
from trtcheck.report.view.formats import backend_name, count, digest, figure, grouped, nodes, share, with_unit
from trtcheck.report.view.records import Record

SHOWN_CLASSES = 10
"""Classes with limits of their own that are told one by one."""


@dataclass(frozen=True)
class Fact:
    """A term and what there is to say of it; *code* for what people copy."""

    term: str
    text: str
    code: bool = False


def _fact(term: str, text: object, *, code: bool = False) -> Fact:
    return Fact(term, "" if text is None else str(text), code)


def _known(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    return tuple(fact for fact in facts if fact.text)


def of_environment(environment: Record) -> tuple[Fact, ...]:
    """Backend, machine and packages."""
    backend = environment.get("backend") or {}
    packages = environment.get("packages") or {}
    return _known(
        (
            _fact("backend", backend_name(backend)),
            _fact("chosen because", backend.get("reason")),
            _fact("device", backend.get("device")),
            _fact("driver", backend.get("driver")),
            _fact("machine", environment.get("machine")),
            _fact("system", environment.get("system")),
            _fact("Python", environment.get("python")),
            *(_fact(package, version) for package, version in sorted(packages.items())),
        )
    )


def of_run(run: Record) -> tuple[Fact, ...]:
    """When, how long and how the run was made."""
    return _known(
        (
            _fact("started", run.get("started")),
            _fact("duration", with_unit(figure(run.get("seconds"), ".1f"), "s")),
            _fact("trtcheck", run.get("version")),
            _fact("workers", count(run.get("workers"))),
            _fact("command", run.get("command"), code=True),
        )
    )


def of_model(model: Record) -> tuple[Fact, ...]:
    """What a model was tested with."""
    source, data = model["model"] or {}, model["data"] or {}
    calibration = model["calibration"] or {}
    return _known(
        (
            _fact("file", source.get("path"), code=True),
            _fact("model digest", digest(source.get("digest")), code=True),
            _fact("inputs", "; ".join(source.get("inputs") or ()), code=True),
            _fact("outputs", "; ".join(source.get("outputs") or ()), code=True),
            _fact("evaluation data", data.get("name"), code=True),
            _fact("images", count(data.get("images"))),
            _fact("data digest", digest(data.get("digest")), code=True),
            _fact("labels digest", digest(data.get("labels_digest")), code=True),
            _fact("classes", count(len(model["classes"]) or None)),
            _fact("calibration data", calibration.get("name"), code=True),
            _fact("calibration images", count(calibration.get("images"))),
            _fact("calibration digest", digest(calibration.get("digest")), code=True),
        )
    )


def of_gates(gates: Record) -> tuple[Fact, ...]:
    """The limits in force, those of single classes last."""
    facts = [_fact(name, _limit(name, value)) for name, value in gates.items() if name != "classes"]
    of_classes = list((gates.get("classes") or {}).items())
    for name, own in of_classes[:SHOWN_CLASSES]:
        limits = [f"{key} {_limit(key, value)}" for key, value in own.items() if value is not None]
        facts.append(_fact(f"class '{name}'", ", ".join(limits)))
    further = len(of_classes) - SHOWN_CLASSES
    if further > 0:
        facts.append(_fact("further classes", f"{further} with limits of their own"))
    return _known(facts)


def _limit(name: str, value: float | None) -> str | None:
    return names.points(value) if value is not None and name.endswith("_drop") else figure(value, "g")


def of_engine(engine: Record) -> tuple[Fact, ...]:
    """Where and over how many images an engine ran."""
    return _known(
        (
            _fact("precision", engine["precision"]),
            _fact("backend", engine["backend"]),
            _fact("images", count(engine["images"])),
            _fact("of these labelled", count(engine["labelled"])),
            _fact("engine", _origin(engine)),
        )
    )


def _origin(engine: Record) -> str | None:
    if engine["cached"] is None:
        return None
    if (engine["lowered"] or {}).get("made_by") == "elsewhere" and "format" in (engine["facts"] or {}):
        return "recorded elsewhere"
    return "from the cache" if engine["cached"] else "built in this run"


def of_flips(engine: Record) -> tuple[Fact, ...]:
    """How many answers changed."""
    flips = engine["flips"]
    if flips is None:
        return ()
    return _known(
        (
            _fact("changed answers", f"{grouped(flips['total'])} of {grouped(engine['images'])} images"),
            _fact("broken", f"{grouped(flips['broken'])} (right before, wrong after)"),
            _fact("fixed", f"{grouped(flips['fixed'])} (wrong before, right after)"),
            _fact("share of images", share(flips["churn"])),
        )
    )


def of_agreement(agreement: Record | None) -> tuple[Fact, ...]:
    """How alike the scores of engine and reference are."""
    if agreement is None:
        return ()
    return _known(
        (
            _fact("same first answer", share(agreement["top1"])),
            _fact(f"same top {agreement['k']}", share(agreement["top_k"])),
            _fact("mean KL divergence", with_unit(figure(agreement["kl_mean"]), "nats")),
            _fact("largest KL divergence", with_unit(figure(agreement["kl_max"]), "nats")),
        )
    )


def of_build(engine: Record) -> tuple[Fact, ...]:
    """How the model was lowered, and what the backend built from it."""
    lowered, built = engine["lowered"] or {}, engine["facts"] or {}
    excluded, clamped = lowered.get("exclude"), lowered.get("clamped")
    method, percentile = lowered.get("method"), lowered.get("percentile")
    return _known(
        (
            _fact("lowered by", lowered.get("made_by")),
            _fact("calibration method", method if percentile is None else f"{method} {percentile:g}"),
            _fact("calibration images", count(lowered.get("calibration_images"))),
            _fact("what is not quantized runs in", lowered.get("rest")),
            _fact(
                "excluded nodes",
                None if excluded is None else ", ".join(excluded) or "none",
                code=bool(excluded),
            ),
            _fact("nodes", _tally((lowered.get("nodes") or {}).items())),
            _fact("changed constants", nodes(clamped) if clamped else None, code=True),
            _fact("folded nodes", lowered.get("folded") or None, code=True),
            *_of_facts(built),
            *_of_recording(built),
            _fact("source digest", digest(lowered.get("source_digest")), code=True),
            _fact("calibration digest", digest(lowered.get("calibration_digest")), code=True),
            _fact("lowered digest", digest(lowered.get("digest")), code=True),
            *(_fact("note", note) for note in lowered.get("notes") or ()),
        )
    )


def _of_facts(built: Record) -> tuple[Fact, ...]:
    """What an engine is made of."""
    tensorrt, inspector = built.get("tensorrt") or {}, built.get("inspector")
    inspected = _tally(sorted(inspector.items())) if inspector else built.get("inspector_note")
    profile = (built.get("profile") or {}).items()
    products = Counter((built.get("computes") or {}).values())
    return (
        _fact("nodes of the engine", count(built.get("nodes"))),
        _fact("computing in", _tally((n, c) for n, c in sorted((built.get("types") or {}).items()) if c)),
        _fact("products computing in", _tally(sorted(products.items()))),
        _fact("engine size", with_unit(count(built.get("engine_bytes")), "bytes")),
        _fact("device memory", with_unit(count(built.get("memory_bytes")), "bytes")),
        _fact("TensorRT", " ".join(str(part) for part in tensorrt.values())),
        _fact("engine inspector", inspected),
        _fact("profile", "; ".join(f"{name} {_shapes(shapes)}" for name, shapes in profile), code=True),
        _fact("build time", with_unit(figure(built.get("seconds"), ".1f"), "s")),
    )


def _shapes(shapes: Record) -> str:
    return " / ".join("x".join(map(str, shapes[end])) for end in ("min", "opt", "max"))


def _of_recording(built: Record) -> tuple[Fact, ...]:
    """Where recorded answers come from."""
    if "format" not in built:
        return ()
    times = built.get("times") or {}
    return (
        _fact("recorded on", built.get("device")),
        _fact("recorded with", built.get("runtime")),
        _fact("recorded precision", built.get("precision")),
        _fact("format", built.get("format")),
        _fact("recorded images", count(built.get("images"))),
        *(_fact(f"recorded {what}", _times(figures)) for what, figures in sorted(times.items())),
    )


def _times(figures: object) -> str:
    if isinstance(figures, bool):
        return "yes" if figures else "no"
    if not isinstance(figures, Mapping):
        return str(figures)
    return ", ".join(
        f"{name.removesuffix('_ms')} {figure(value, '.3g')} ms" for name, value in figures.items()
    )


def of_beside(beside: Record | None) -> tuple[Fact, ...]:
    """The TensorRT engine that was built and not run."""
    if not beside:
        return ()
    how = "from the cache" if beside["cached"] else "built in this run"
    return _known((_fact("built for", f"{beside['backend']}, {how}"), *_of_facts(beside["facts"])))


def of_all_beside(engines: Iterable[Record]) -> tuple[Fact, ...]:
    """Which TensorRT built engines that this machine did not run, for the whole run."""
    built = Counter(engine["beside"]["backend"] for engine in engines if engine.get("beside"))
    return tuple(
        _fact(f"built by {name} besides", f"{count} engines, not run") for name, count in built.items()
    )


def _tally(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{grouped(value)} {name}" for name, value in counts)


def of_baseline(baseline: Record | None) -> tuple[Fact, ...]:
    """Which approved baseline there is, and what became of it."""
    if baseline is None:
        return ()
    return _known(
        (
            _fact("status", baseline["status"]),
            _fact("file", baseline["path"], code=True),
            _fact("message", baseline["message"]),
        )
    )
