"""What stands at the top of the report: the verdict in a sentence, and what changed since the approval."""

from __future__ import annotations

from typing import Any

import pytest
from test_report_html import FASHION, assert_sound, document, evaluated
from test_report_latency import JUDGED, THROTTLED, UNSURE, reported, timed

from trtcheck.report import view

OPEN = {**UNSURE, "gated": True}
SAME = {**JUDGED, "verdict": "pass", "effect": 0.001, "low": -0.002, "high": 0.004}
PACKAGE = {"what": "onnxruntime", "approved": "1.31.1", "now": "1.32.0"}


def test_the_worst_class_is_told_with_its_figures_and_the_rest_by_name():
    found = document(
        evaluated("fashion", "int8", FASHION, 1000, {"Shirt": ("Coat", 0.8)}),
        evaluated("fashion", "fp16", FASHION, 1000, {}),
    )
    row = next(row for row in found["items"][3]["classes"] if row["name"] == "Shirt")
    before, after = (f"{row[side]:.3f}".lstrip("0") for side in ("before", "after"))
    fell = f"recall of 'Shirt' fell from {before} to {after} (support 1000, p < 1e-9)"
    assert view.headline(found) == f"INT8 fails: {fell}; FP16 passes"
    assert view.index(found).summary.startswith("fashion, 2 engines, 10 checks: 2 fail, 8 pass")


def test_two_models_are_told_apart():
    ruined = evaluated("fashion", "int8", FASHION, 1000, {"Shirt": ("Coat", 0.8)})
    said = view.headline(document(ruined, evaluated("cars", "int8", FASHION, 100, {})))
    assert said.startswith("INT8 of fashion fails: recall of 'Shirt' fell")
    assert said.endswith("; INT8 of cars passes")


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([timed("fp16", 1, 0.7, judged=[SAME]), timed("fp16", 8, 1.6, judged=[SAME])], "; nothing slower"),
        ([timed("fp16", 1, 0.7, judged=[SAME]), timed("fp16", 8, 1.6, judged=[OPEN])], ""),
        ([timed("fp16", 1, 0.7, judged=[SAME, UNSURE])], "; nothing slower"),  # p95 is not waited for
        ([timed("fp16", 1, 0.7, judged=[{**SAME, "rule": "none"}])], ""),
        ([timed("fp16", 1, 0.7, judged=[SAME], health=THROTTLED)], ""),
        ([timed("fp16", 1, 0.7, judged=[SAME]), timed("tf32", 1, 0.7, judged=[SAME], health=THROTTLED)], ""),
        ([timed("fp16", 1, 0.7, judged=[{**SAME, "what": "faster_than"}])], ""),
        ([timed("fp16", 1, 0.7, judged=[SAME], warnings=["fp16 is slower than fp32 at batch 1"])], ""),
        ([timed("fp16", 1, 0.7)], ""),
    ],
    ids=["all", "one open", "open p95", "nothing to compare with", "unfit machine", "another one unfit",
         "only a rival", "slower than a wider one", "not judged"],
)  # fmt: skip
def test_nothing_slower_is_said_only_where_times_were_compared(items: list[dict[str, Any]], told: str):
    said = view.headline(reported(*items))
    assert said.startswith("Everything passes: ")
    assert said.endswith(f"{len(items)} check{'s' if len(items) > 1 else ''}{told}")


def test_what_became_slower_beside_a_worse_finding_is_told():
    engine, items = evaluated("resnet50", "int8", FASHION, 1000, {"Shirt": ("Coat", 0.8)})
    slow = timed("fp16", 8, 1.65, verdict="fail", fails=True, judged=[JUDGED])
    found = document((engine, items))
    found["items"].append(slow)
    assert view.headline(found).endswith("; FP16 fails; FP16 is slower at batch 8")
    found["items"].append({**slow, "batch": 64, "nodeid": "another"})
    assert view.headline(found).endswith("; FP16 is slower at batch 8, and 1 more")


def approved(status: str = "compared", *changes: dict[str, str], engine: str = "fp16") -> Any:
    """An engine whose baseline has that status and those changes."""
    made, items = evaluated("fashion", engine, FASHION, 100, {})
    return {**made, "baseline": {**made["baseline"], "status": status, "changes": list(changes)}}, items


def test_what_changed_since_the_approval_is_told_once_with_the_engines_it_is_about(tmp_path):
    model = {"what": "model", "approved": "aaaa", "now": "<b>"}
    found = document(approved("compared", PACKAGE, model), approved("refused", PACKAGE, engine="int8"))
    told = view.index(found).approval
    assert told.sentence == (
        "1 engine compared with the approved baseline; 1 engine not comparable with the approved baseline; "
        "changed since the approval: onnxruntime, model"
    )
    assert [(c.what, c.approved, c.now, [name for name, _ in c.engines]) for c in told.changes] == [
        ("onnxruntime", "1.31.1", "1.32.0", ["fashion FP16", "fashion INT8"]),
        ("model", "aaaa", "<b>", ["fashion FP16"]),
    ]
    pages = assert_sound(found, tmp_path)
    assert "onnxruntime: 1.31.1 → 1.32.0" in pages["index.html"].text
    assert "fashion--fp16.html#baseline" in pages["index.html"].links
    facts = {fact.term: fact.text for fact in view.engines(found)[0].baseline}
    assert facts["model changed"] == "aaaa → <b>"


def test_nothing_changed_is_said_only_where_everything_was_compared():
    assert view.index(document(approved())).approval.sentence == (
        "1 engine compared with the approved baseline; "
        "nothing that is known of model, data, precision and versions changed"
    )
    both = document(approved(), approved("missing", engine="int8"))
    assert view.index(both).approval.sentence == (
        "1 engine compared with the approved baseline; 1 engine without an approved baseline"
    )


def test_changes_of_many_engines_are_bounded():
    engines = [approved("compared", PACKAGE, engine=f"model{k}") for k in range(20)]
    many = [{"what": f"package {k}", "approved": "1", "now": "2"} for k in range(30)]
    told = view.index(document(*engines, approved("compared", *many, engine="int8"))).approval
    assert (len(told.changes), told.more) == (12, 19)
    assert (len(told.changes[0].engines), told.changes[0].more) == (6, 14)


def test_the_node_that_overflows_comes_before_what_it_does():
    engine, items = evaluated("fashion", "fp16", FASHION, 100, {"Shirt": ("Coat", 0.8)})
    told = "node 'square' leaves the range of FP16"
    items[3]["message"] = f"{items[3]['message']}; {told}"
    [found] = [
        found
        for found in view.index(document(({**engine, "overflow": told}, items))).problems
        if found.checks == ("recall",)
    ]
    assert found.message.startswith(f"{told};\nrecall of 'Shirt' fell")


def test_what_stands_in_brackets_is_one_finding():
    engine, items = evaluated("fashion", "fp16", FASHION, 100, {})
    items[3].update(verdict="fail", fails=True, message="one (a; b); two; three (c (d; e); f)")
    [found] = view.index(document((engine, items))).problems
    assert found.message == "one (a; b);\ntwo;\nthree (c (d; e); f)"
