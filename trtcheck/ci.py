"""Which run of a CI server this is, as far as its environment variables tell."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import quote, urlsplit

LONGEST = 300
"""Characters that a value may have; a longer one is no commit, no branch and no address."""


class _Server(NamedTuple):
    """A CI server: its name, the variable that only it sets, and where it says what."""

    name: str
    sign: str
    commit: tuple[str, ...]
    ref: tuple[str, ...]
    url: Callable[[Mapping[str, str]], str | None]


def run_of(environment: Mapping[str, str]) -> dict[str, str | None] | None:
    """Name of the CI server, commit, branch or tag, and address of the run; None outside of a known server.

    What is not set, too long, not printable or, as an address, not plain http or https is None.

    Args:
        environment: Environment variables.
    """
    server = next((each for each in _SERVERS if environment.get(each.sign)), None)
    if server is None:
        return None
    return {
        "name": server.name,
        "commit": _first(environment, server.commit),
        "ref": _first(environment, server.ref),
        "url": _address(server.url(environment)),
    }


def _first(environment: Mapping[str, str], names: tuple[str, ...]) -> str | None:
    return next((text for name in names if (text := _text(environment.get(name)))), None)


def _text(value: str | None) -> str | None:
    return value if value and len(value) <= LONGEST and value.isprintable() else None


def _address(value: str | None) -> str | None:
    """*value* where it is an address that may be shown: no other scheme, and no password in it."""
    text = _text(value)
    if text is None or " " in text:
        return None
    try:
        parts = urlsplit(text)
    except ValueError:
        return None
    plain = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    return text if plain else None


def _variable(name: str) -> Callable[[Mapping[str, str]], str | None]:
    return lambda environment: environment.get(name)


def _github(environment: Mapping[str, str]) -> str | None:
    parts = [environment.get(f"GITHUB_{name}") for name in ("SERVER_URL", "REPOSITORY", "RUN_ID")]
    return "{}/{}/actions/runs/{}".format(*parts) if all(parts) else None


def _azure(environment: Mapping[str, str]) -> str | None:
    collection = environment.get("SYSTEM_TEAMFOUNDATIONCOLLECTIONURI")
    project, build = environment.get("SYSTEM_TEAMPROJECT"), environment.get("BUILD_BUILDID")
    if not (collection and project and build):
        return None
    return f"{collection.rstrip('/')}/{quote(project)}/_build/results?buildId={quote(build)}"


_SERVERS = (
    _Server(
        "GitHub Actions", "GITHUB_ACTIONS", ("GITHUB_SHA",), ("GITHUB_HEAD_REF", "GITHUB_REF_NAME"), _github
    ),
    _Server("GitLab CI", "GITLAB_CI", ("CI_COMMIT_SHA",), ("CI_COMMIT_REF_NAME",), _variable("CI_JOB_URL")),
    _Server(
        "Jenkins", "JENKINS_URL", ("GIT_COMMIT",), ("CHANGE_BRANCH", "BRANCH_NAME", "GIT_BRANCH"),
        _variable("BUILD_URL"),
    ),
    _Server(
        "Azure Pipelines", "TF_BUILD", ("BUILD_SOURCEVERSION",),
        ("SYSTEM_PULLREQUEST_SOURCEBRANCH", "BUILD_SOURCEBRANCH"), _azure,
    ),
    _Server(
        "Buildkite", "BUILDKITE", ("BUILDKITE_COMMIT",), ("BUILDKITE_BRANCH",),
        _variable("BUILDKITE_BUILD_URL"),
    ),
    _Server(
        "CircleCI", "CIRCLECI", ("CIRCLE_SHA1",), ("CIRCLE_TAG", "CIRCLE_BRANCH"),
        _variable("CIRCLE_BUILD_URL"),
    ),
)  # fmt: skip
"""Their documented variables. Where a pull request is built, its own branch is told, not the merged one."""
