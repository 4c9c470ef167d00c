"""pip-audit itself, asking a service of ours that knows what is vulnerable, or knows nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tidegate.evidence import dependencies
from tidegate.evidence.probe import CannotRunError, Ground
from tidegate.settings import Settings

LOCK = "leaky==1.0 \\\n    --hash=sha256:{0}\nsound==2.0 \\\n    --hash=sha256:{0}\n".format("0" * 64)


@pytest.fixture
def advisories(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, list[str]]]:
    """A service that speaks OSV: what it tells of, by package."""
    told = {"jinja2": ["CVE-2014-0012"], "leaky": ["CVE-2026-1", "CVE-2026-2"]}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
            package = {"name": asked, "ecosystem": "PyPI"}
            found = [{"id": name, "affected": [{"package": package}]} for name in told.get(asked, [])]
            body = json.dumps({"vulns": found} if found else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://127.0.0.1:{server.server_port}/v1/query")
    yield told
    server.shutdown()
    server.server_close()


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    (tmp_path / "requirements.txt").write_text(LOCK)
    return Ground(Settings(project=tmp_path, home=tmp_path / "home"))


def test_what_is_vulnerable_in_the_lock_is_named(ground: Ground, advisories: dict[str, list[str]]) -> None:
    (found,) = dependencies.vulnerabilities(ground)
    assert found.figures == {"packages": 2, "vulnerable": 1, "vulnerabilities": 2}
    assert found.exit_status == 1
    assert "leaky 1.0: CVE-2026-1" in found.text
    assert "REPORT" in found.command
    assert str(ground.settings.project) not in found.command
    del advisories["leaky"]
    (well,) = dependencies.vulnerabilities(ground)
    assert (well.figures["vulnerabilities"], well.exit_status) == (0, 0)


def test_a_service_that_knows_nothing_yields_no_figure(ground: Ground, advisories: dict[str, list[str]]) -> None:
    advisories.clear()
    with pytest.raises(CannotRunError, match=r"nobody in reach tells of vulnerabilities: asked about jinja2==2\.4\.1"):
        list(dependencies.vulnerabilities(ground))


def test_without_a_service_or_a_lock_there_is_no_figure(
    ground: Ground, advisories: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", "http://127.0.0.1:9/v1/query")
    with pytest.raises(CannotRunError, match="pip-audit could not look"):
        list(dependencies.vulnerabilities(ground))
    (ground.settings.project / "requirements.txt").unlink()
    with pytest.raises(CannotRunError, match=r"there is no requirements\.txt"):
        list(dependencies.vulnerabilities(ground))
