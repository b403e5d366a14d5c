"""What is known of a CI server's run: names, commits and addresses from environment variables alone."""

from __future__ import annotations

import pytest

from trtcheck.ci import LONGEST, run_of

GITHUB = {
    "CI": "true", "GITHUB_ACTIONS": "true", "GITHUB_SHA": "4d3c2b1a", "GITHUB_REF_NAME": "12/merge",
    "GITHUB_HEAD_REF": "int8", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "us/cats",
    "GITHUB_RUN_ID": "77",
}  # fmt: skip


@pytest.mark.parametrize(("environment", "found"), [
    (GITHUB, ("GitHub Actions", "4d3c2b1a", "int8", "https://github.com/us/cats/actions/runs/77")),
    ({**GITHUB, "GITHUB_HEAD_REF": ""},
     ("GitHub Actions", "4d3c2b1a", "12/merge", "https://github.com/us/cats/actions/runs/77")),
    ({"GITLAB_CI": "true", "CI_COMMIT_SHA": "ab", "CI_COMMIT_REF_NAME": "main", "CI_JOB_URL": "https://g/-/jobs/9"},
     ("GitLab CI", "ab", "main", "https://g/-/jobs/9")),
    ({"JENKINS_URL": "http://j/", "GIT_COMMIT": "cd", "GIT_BRANCH": "origin/main", "BUILD_URL": "http://j/job/1/"},
     ("Jenkins", "cd", "origin/main", "http://j/job/1/")),
    ({"TF_BUILD": "True", "BUILD_SOURCEVERSION": "ef", "BUILD_SOURCEBRANCH": "refs/heads/main",
      "SYSTEM_TEAMFOUNDATIONCOLLECTIONURI": "https://dev.azure.com/us/", "SYSTEM_TEAMPROJECT": "big cats",
      "BUILD_BUILDID": "5"},
     ("Azure Pipelines", "ef", "refs/heads/main", "https://dev.azure.com/us/big%20cats/_build/results?buildId=5")),
    ({"BUILDKITE": "true", "BUILDKITE_COMMIT": "01", "BUILDKITE_BRANCH": "b", "BUILDKITE_BUILD_URL": "https://k/1"},
     ("Buildkite", "01", "b", "https://k/1")),
    ({"CIRCLECI": "true", "CIRCLE_SHA1": "02", "CIRCLE_BRANCH": "c", "CIRCLE_BUILD_URL": "https://c/1"},
     ("CircleCI", "02", "c", "https://c/1")),
])  # fmt: skip
def test_each_server_tells_its_name_the_commit_the_branch_and_the_run(environment, found):
    assert run_of(environment) == dict(zip(("name", "commit", "ref", "url"), found, strict=True))


@pytest.mark.parametrize("environment", [{}, {"CI": "true"}, {"GITHUB_ACTIONS": "", "GITHUB_SHA": "1"}])
def test_a_desk_and_an_unknown_server_are_no_run(environment):
    assert run_of(environment) is None


@pytest.mark.parametrize("commit", ["", "x" * (LONGEST + 1), "a\nb", "\x1b[31m", "\u202eabc"])
def test_what_is_no_commit_is_left_out(commit):
    assert run_of({**GITHUB, "GITHUB_SHA": commit})["commit"] is None


@pytest.mark.parametrize("url", [
    "javascript:alert(1)", "data:text/html,x", "file:///etc/passwd", "//host/x", "ftp://host/x", "https://",
    "https://user:secret@host/1", "https://host/a b", "https://host/\n", "https://[", "x" * 999,
])  # fmt: skip
def test_only_plain_addresses_of_http_are_told(url):
    found = run_of({"JENKINS_URL": "http://j/", "GIT_COMMIT": "cd", "BUILD_URL": url})
    assert found == {"name": "Jenkins", "commit": "cd", "ref": None, "url": None}


def test_an_address_of_which_a_part_is_missing_is_none():
    assert run_of({key: value for key, value in GITHUB.items() if key != "GITHUB_RUN_ID"})["url"] is None


def test_the_run_stands_in_the_report_and_on_its_first_page(suite, monkeypatch):
    for name, value in GITHUB.items():
        monkeypatch.setenv(name, value)
    suite.run("--trt-engine=fp32", "-k", "build or accuracy")
    assert suite.report()["run"]["ci"]["commit"] == "4d3c2b1a"
    page = (suite.path / "reports" / "index.html").read_text(encoding="utf-8")
    assert "4d3c2b1a" in page
    assert "https://github.com/us/cats/actions/runs/77" in page
    assert 'href="http' not in page
    summary = (suite.path / "reports" / "summary.md").read_text(encoding="utf-8")
    assert "[GitHub Actions](https://github.com/us/cats/actions/runs/77)" in summary
