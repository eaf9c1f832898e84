"""The alerts: on metrics that there are, told of in the runbook, right by Prometheus' own tool."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from scanner.engine import metrics
from scanner.errors import ExitCode
from scanner.nightly import metrics_file

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
GROUPS = yaml.safe_load((INFRA / "alerts.yml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
OTHERS = {"up", "kube_cronjob_status_last_schedule_time"}
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()


def promtool(*words: object) -> str:
    if shutil.which("promtool") is None:
        pytest.skip("promtool, of Debian's package prometheus, is not here")
    done = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True,
                          check=False, cwd=INFRA)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_alerts_ask_for_metrics_that_there_are():
    emitted = {f"ray_{name}" for name in metrics.NAMES} | set(metrics_file.GAUGES) | OTHERS
    for rule in RULES:
        asked = set(re.findall(r"\b(?:ray_|kube_)?memscan_\w+|\bkube_\w+|\bup\b", rule["expr"]))
        assert asked, rule["alert"]
        assert asked <= emitted, rule["alert"]


def test_the_runbook_has_a_section_for_every_alert_and_every_exit_code():
    headings = re.findall(r"^### (\w+)$", RUNBOOK, re.MULTILINE)
    assert [rule["alert"] for rule in RULES] == [h for h in headings if h.startswith("Memscan")]
    for rule in RULES:
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in {"info", "warning", "critical"}
    codes = re.findall(r"^### Exit code (\d+)", RUNBOOK, re.MULTILINE)
    assert codes == [str(int(code)) for code in ExitCode]


def test_prometheus_takes_the_rules_and_the_configuration():
    assert f"{len(RULES)} rules found" in promtool("check", "rules", "alerts.yml")
    promtool("check", "config", "prometheus.yml")


def test_every_alert_fires_where_it_should_and_is_silent_elsewhere():
    tests = yaml.safe_load((INFRA / "alerts.test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    names = {rule["alert"] for rule in RULES}
    assert {case["alertname"] for case in cases if case.get("exp_alerts")} == names
    assert {case["alertname"] for case in cases if not case.get("exp_alerts")} == names
    assert "SUCCESS" in promtool("test", "rules", "alerts.test.yml")


def test_a_rule_that_no_longer_fires_fails_its_test(tmp_path):
    text = (INFRA / "alerts.yml").read_text()
    for name in ("alerts.yml", "alerts.test.yml"):
        shutil.copy(INFRA / name, tmp_path)
    (tmp_path / "alerts.yml").write_text(text.replace("0.05", "0.5"))
    with pytest.raises(AssertionError, match="MemscanRejects"):
        promtool("test", "rules", tmp_path / "alerts.test.yml")
