"""Facts: terms and what there is to say of them, about the run, a model or an engine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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


def fact(term: str, text: object, *, code: bool = False) -> Fact:
    """A fact; None is nothing to say."""
    return Fact(term, "" if text is None else str(text), code)


def known(facts: Iterable[Fact]) -> tuple[Fact, ...]:
    """The *facts* of which there is something to say."""
    return tuple(each for each in facts if each.text)


def of_environment(environment: Record) -> tuple[Fact, ...]:
    """Backend, machine and packages."""
    backend = environment.get("backend") or {}
    packages = environment.get("packages") or {}
    return known(
        (
            fact("backend", backend_name(backend)),
            fact("chosen because", backend.get("reason")),
            fact("device", backend.get("device")),
            fact("driver", backend.get("driver")),
            *(fact(name, value) for name, value in (backend.get("settings") or {}).items()),
            fact("machine", environment.get("machine")),
            fact("system", environment.get("system")),
            fact("Python", environment.get("python")),
            *(fact(package, version) for package, version in sorted(packages.items())),
        )
    )


def of_run(run: Record) -> tuple[Fact, ...]:
    """When, how long and how the run was made."""
    return known(
        (
            fact("started", run.get("started")),
            fact(
                "duration of all jobs together" if run.get("jobs") else "duration",
                with_unit(figure(run.get("seconds"), ".1f"), "s"),
            ),
            fact("trtcheck", run.get("version")),
            *_of_ci(run.get("ci") or {}),
            fact("workers", count(run.get("workers"))),
            fact("command", run.get("command"), code=True),
        )
    )


def _of_ci(found: Record) -> tuple[Fact, ...]:
    """The run of a CI server; its address is told, not linked: a page in a sandbox may not leave it."""
    terms = {"CI": "name", "commit": "commit", "branch or tag": "ref", "CI run": "url"}
    return tuple(fact(term, found.get(key), code=key != "name") for term, key in terms.items())


def of_model(model: Record) -> tuple[Fact, ...]:
    """What a model was tested with."""
    source, data = model["model"] or {}, model["data"] or {}
    calibration = model["calibration"] or {}
    return known(
        (
            fact("file", source.get("path"), code=True),
            fact("model digest", digest(source.get("digest")), code=True),
            fact("inputs", "; ".join(source.get("inputs") or ()), code=True),
            fact("outputs", "; ".join(source.get("outputs") or ()), code=True),
            fact("evaluation data", data.get("name"), code=True),
            fact("images", count(data.get("images"))),
            fact("data digest", digest(data.get("digest")), code=True),
            fact("labels digest", digest(data.get("labels_digest")), code=True),
            fact("classes", count(len(model["classes"]) or None)),
            fact("calibration data", calibration.get("name"), code=True),
            fact("calibration images", count(calibration.get("images"))),
            fact("calibration digest", digest(calibration.get("digest")), code=True),
        )
    )


def of_gates(gates: Record) -> tuple[Fact, ...]:
    """The limits in force, those of single classes last."""
    facts = [fact(name, _limit(name, value)) for name, value in gates.items() if name != "classes"]
    of_classes = list((gates.get("classes") or {}).items())
    for name, own in of_classes[:SHOWN_CLASSES]:
        limits = [f"{key} {_limit(key, value)}" for key, value in own.items() if value is not None]
        facts.append(fact(f"class '{name}'", ", ".join(limits)))
    further = len(of_classes) - SHOWN_CLASSES
    if further > 0:
        facts.append(fact("further classes", f"{further} with limits of their own"))
    return known(facts)


def _limit(name: str, value: float | str | Sequence[str] | Mapping[str, float] | None) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ", ".join(f"batch {batch}: {_limit(name, own)}" for batch, own in value.items())
    if isinstance(value, Sequence):
        return ", ".join(value)
    if name in _PERCENT:
        return names.percent(value)
    return names.points(value) if name.endswith("_drop") or name == "must_see" else figure(value, "g")


_PERCENT = (
    "churn", "saturation", "accuracy_target", "latency_slowdown", "latency_p95_slowdown", "throughput_drop",
)  # fmt: skip


def of_engine(engine: Record) -> tuple[Fact, ...]:
    """Where and over how many images an engine ran."""
    return known(
        (
            fact("job", engine.get("job")),
            fact("precision", engine["precision"]),
            fact("backend", engine["backend"]),
            fact("reference", _reference(engine.get("reference"))),
            fact("images", count(engine["images"])),
            fact("of these labelled", count(engine["labelled"])),
            fact("engine", _origin(engine)),
        )
    )


def _reference(place: Record | None) -> str | None:
    """Where the reference ran, and why there."""
    if place is None:
        return None
    return f"{place['provider']} {place['version']} on {place['device']} ({place['reason']})"


def _origin(engine: Record) -> str | None:
    if engine["cached"] is None:
        return None
    if (engine["lowered"] or {}).get("made_by") == "elsewhere" and "format" in (engine["facts"] or {}):
        return "recorded elsewhere"
    return "from the cache" if engine["cached"] else "built in this run"


def of_flips(engine: Record, items: Iterable[Record]) -> tuple[Fact, ...]:
    """How many answers changed, with the bounds of their share that an outputs item among *items* has."""
    flips = engine["flips"]
    if flips is None:
        return ()
    churn = next((found for item in items if (found := item.get("churn"))), None)
    return known(
        (
            fact("changed answers", f"{grouped(flips['total'])} of {grouped(engine['images'])} images"),
            fact("broken", f"{grouped(flips['broken'])} (right before, wrong after)"),
            fact("fixed", f"{grouped(flips['fixed'])} (wrong before, right after)"),
            fact("share of images", None if flips["churn"] is None else _churn(flips["churn"], churn)),
        )
    )


def _churn(rate: float, bounds: Record | None) -> str:
    told = names.percent(rate)
    if bounds is not None:
        high, sure = names.percent(bounds["high"], up=True), names.confidence(bounds["confidence"])
        told += f", at most {high} with {sure} confidence"
        told += "" if bounds["limit"] is None else f"; limit {names.percent(bounds['limit'])}"
    return told


def of_agreement(agreement: Record | None) -> tuple[Fact, ...]:
    """How alike the scores of engine and reference are."""
    if agreement is None:
        return ()
    return known(
        (
            fact("same first answer", share(agreement["top1"])),
            fact(f"same top {agreement['k']}", share(agreement["top_k"])),
            fact("mean KL divergence", with_unit(figure(agreement["kl_mean"]), "nats")),
            fact("largest KL divergence", with_unit(figure(agreement["kl_max"]), "nats")),
        )
    )


def of_build(engine: Record) -> tuple[Fact, ...]:
    """How the model was lowered, and what the backend built from it."""
    lowered, built = engine["lowered"] or {}, engine["facts"] or {}
    excluded, clamped = lowered.get("exclude"), lowered.get("clamped")
    method, percentile = lowered.get("method"), lowered.get("percentile")
    return known(
        (
            fact("lowered by", lowered.get("made_by")),
            fact("calibration method", method if percentile is None else f"{method} {percentile:g}"),
            fact("calibration images", count(lowered.get("calibration_images"))),
            fact("what is not quantized runs in", lowered.get("rest")),
            fact(
                "excluded nodes",
                None if excluded is None else ", ".join(excluded) or "none",
                code=bool(excluded),
            ),
            fact("nodes", _tally((lowered.get("nodes") or {}).items())),
            fact("changed constants", nodes(clamped) if clamped else None, code=True),
            fact("folded nodes", lowered.get("folded") or None, code=True),
            *_of_facts(built),
            *_of_recording(built),
            fact("source digest", digest(lowered.get("source_digest")), code=True),
            fact("calibration digest", digest(lowered.get("calibration_digest")), code=True),
            fact("lowered digest", digest(lowered.get("digest")), code=True),
            *(fact("note", note) for note in lowered.get("notes") or ()),
        )
    )


def _of_facts(built: Record) -> tuple[Fact, ...]:
    """What an engine is made of."""
    tensorrt, inspector = built.get("tensorrt") or {}, built.get("inspector")
    inspected = _tally(sorted(inspector.items())) if inspector else built.get("inspector_note")
    profile = (built.get("profile") or {}).items()
    options = (built.get("provider_options") or {}).items()
    products = Counter((built.get("computes") or {}).values())
    return (
        fact("nodes of the engine", count(built.get("nodes"))),
        fact("computing in", _tally((n, c) for n, c in sorted((built.get("types") or {}).items()) if c)),
        fact("products computing in", _tally(sorted(products.items()))),
        fact("nodes by provider", _tally(sorted((built.get("providers") or {}).items()))),
        fact("nodes on the CPU", _tally(sorted((built.get("on_cpu") or {}).items()))),
        fact("provider options", ", ".join(f"{name} = {value}" for name, value in options)),
        fact("engine size", with_unit(count(built.get("engine_bytes")), "bytes")),
        fact("device memory", with_unit(count(built.get("memory_bytes")), "bytes")),
        fact("TensorRT", " ".join(str(part) for part in tensorrt.values())),
        fact("engine inspector", inspected),
        fact("profile", "; ".join(f"{name} {_shapes(shapes)}" for name, shapes in profile), code=True),
        fact("build time", with_unit(figure(built.get("seconds"), ".1f"), "s")),
    )


def _shapes(shapes: Record) -> str:
    return " / ".join("x".join(map(str, shapes[end])) for end in ("min", "opt", "max"))


def _of_recording(built: Record) -> tuple[Fact, ...]:
    """Where recorded answers come from."""
    if "format" not in built:
        return ()
    times = built.get("times") or {}
    return (
        fact("recorded on", built.get("device")),
        fact("recorded with", built.get("runtime")),
        fact("recorded precision", built.get("precision")),
        fact("format", built.get("format")),
        fact("recorded images", count(built.get("images"))),
        *(fact(f"recorded {what}", _times(figures)) for what, figures in sorted(times.items())),
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
    return known((fact("built for", f"{beside['backend']}, {how}"), *_of_facts(beside["facts"])))


def of_all_beside(engines: Iterable[Record]) -> tuple[Fact, ...]:
    """Which TensorRT built engines that this machine did not run, for the whole run."""
    built = Counter(engine["beside"]["backend"] for engine in engines if engine.get("beside"))
    return tuple(
        fact(f"built by {name} besides", f"{count} engines, not run") for name, count in built.items()
    )


def _tally(counts: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{grouped(value)} {name}" for name, value in counts)


def of_baseline(baseline: Record | None) -> tuple[Fact, ...]:
    """Which approved baseline there is, and what became of it."""
    if baseline is None:
        return ()
    return known(
        (
            fact("status", baseline["status"]),
            fact("file", baseline["path"], code=True),
            fact("message", baseline["message"]),
            *(
                fact(f"{change['what']} changed", f"{change['approved']} → {change['now']}")
                for change in baseline.get("changes") or ()
            ),
        )
    )
