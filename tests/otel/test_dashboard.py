"""The dashboard for Grafana, and the metrics as Prometheus gets them."""

from __future__ import annotations

import importlib.resources
import json
import re
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import REGISTRY, generate_latest

from finetuning_async import SubmissionUnknownError
from finetuning_async.emulator import Fault
from finetuning_async.otel import OpenTelemetry
from tests._emulated_client import emulated, short
from tests.otel._creates import CREATE, complete_one_and_fail_one


def _dashboard() -> Any:
    path = importlib.resources.files("finetuning_async.otel") / "grafana.json"
    return json.loads(path.read_text("utf-8"))


def _expressions() -> list[str]:
    return [t["expr"] for panel in _dashboard()["panels"] for t in panel["targets"]]


async def _exported() -> dict[str, set[str]]:
    """All our metrics after a while of everything: the names, with their labels."""
    provider = MeterProvider([PrometheusMetricReader()])
    try:
        callback = OpenTelemetry(meter_provider=provider)
        async with emulated(short(queue_size=1), on_event=callback) as (
            emulator,
            client,
        ):
            await complete_one_and_fail_one(emulator, client)
            emulator.add_fault(Fault("lost_before_commit", CREATE))
            with pytest.raises(SubmissionUnknownError):
                await client.generations.create("z")
        lines = generate_latest(REGISTRY).decode().splitlines()
    finally:
        provider.shutdown()
    found: dict[str, set[str]] = {}
    for line in lines:
        if line.startswith("finetuning_"):
            name = re.split(r"[{ ]", line)[0]
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', line))
    return found


async def test_the_dashboard_has_each_metric_as_prometheus_gets_it_and_no_other() -> (
    None
):
    exported = await _exported()
    shown: set[str] = set()
    for expression in _expressions():
        (name,) = re.findall(r"\b(finetuning_\w+)\{", expression)
        shown.add(name)
        used = re.findall(r"\b(?:by|le),? ?\(([^)]*)\)", expression)
        labels = {each.strip() for group in used for each in group.split(",")}
        assert labels <= exported[name], expression
    series = {name.removesuffix("_bucket") for name in shown}
    derived = ("_bucket", "_count", "_sum", "_created")
    made = {re.sub(f"({'|'.join(derived)})$", "", name) for name in exported}
    assert series == made


def test_the_dashboard_can_be_imported() -> None:
    board = _dashboard()
    assert board["title"]
    assert board["schemaVersion"] >= 36
    variables = {v["name"]: v for v in board["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids) > 5
    places = set()
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["type"] in ("timeseries", "stat")
        for each in (panel, *panel["targets"]):
            assert each["datasource"]["uid"] == "${datasource}"
        assert len({t["refId"] for t in panel["targets"]}) == len(panel["targets"])
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        places.add((place["x"], place["y"]))
    assert len(places) == len(ids)
    assert all(e.count("(") == e.count(")") for e in _expressions())
