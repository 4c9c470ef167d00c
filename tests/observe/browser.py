"""A real browser for tests: how a page comes out at a given width."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    # The page forbids scripts, so a frame around it measures: files must count as one origin for that.
    "--allow-file-access-from-files",
    "--enable-logging=stderr",
)
_FRAME = """
<!doctype html><iframe id="page" style="border: 0; width: {width}px; height: 900px" src="{page}"></iframe>
<pre id="measured"></pre>
<script>
  document.getElementById("page").onload = function () {{
    const root = this.contentDocument.documentElement;
    const marks = [...this.contentDocument.querySelectorAll("svg[role=img] path")];
    const fills = [...new Set(marks.map(mark => getComputedStyle(mark).fill))];
    document.getElementById("measured").textContent = JSON.stringify({{
      width: root.clientWidth, needed: root.scrollWidth, height: root.scrollHeight, fills
    }});
  }};
</script>
"""


@dataclass(frozen=True)
class Rendered:
    """What the browser made of the page: sizes in pixels, colours of the plots' marks, its complaints."""

    width: int
    needed: int
    height: int
    fills: list[str]
    complaints: list[str]


def render(page: Path, width: int, folder: Path) -> Rendered:
    """Open the page in a window of that width; `folder` takes the browser's own files."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    assert program is not None, "no Chromium on PATH; bin/bootstrap test installs it"
    frame = folder / f"frame-{width}.html"
    frame.write_text(_FRAME.format(width=width, page=page.as_uri()))
    profile = folder / f"profile-{width}"
    done = subprocess.run(
        [
            program,
            *_FLAGS,
            f"--user-data-dir={profile}",
            "--window-size=1600,1000",
            "--dump-dom",
            frame.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    found = re.search(r'<pre id="measured">(.+?)</pre>', done.stdout)
    assert found is not None, done.stderr
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Rendered(**json.loads(found.group(1)), complaints=complaints)
