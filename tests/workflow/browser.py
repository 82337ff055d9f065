"""A page opened in headless Chromium, with what went wrong while it was shown."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE

NAMES = ("chromium", "chromium-browser", "google-chrome")
# Before all else in the page: what it complains of, by whatever way.
_WATCH = """<script>
window.problems = [];
const complain = (...words) => window.problems.push(words.map(String).join(" "));
console.error = complain;
window.addEventListener("error", (event) => complain(event.message || `cannot load ${event.target.src}`), true);
window.addEventListener("unhandledrejection", (event) => complain(event.reason));
</script>"""
# After all else; in Base64, as the page may hold any characters.
_TELL = """<script type="module">
const answer = await (async () => { %s })();
const told = {answer, problems: window.problems, fetched: performance.getEntriesByType("resource").map((r) => r.name)};
const bytes = new TextEncoder().encode(JSON.stringify(told));
document.body.dataset.told = btoa(Array.from(bytes, (byte) => String.fromCodePoint(byte)).join(""));
</script>"""


def browser() -> str | None:
    """The path of Chromium; None if there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def opened(page: Path, script: str, folder: Path) -> dict[str, Any]:
    """Open ``page`` without a network, run ``script`` in it and take ``folder``/screenshot.png.

    Args:
        page: an HTML file.
        script: body of an async JavaScript function.
        folder: for the files that this needs.

    Returns:
        ``answer``: what the script returned; ``problems``: errors in words; ``fetched``: addresses that were asked for.
    """
    text = page.read_text(encoding="utf-8")
    assert text.rstrip().endswith("</html>")
    watched = folder / "watched.html"
    watched.write_text(text.replace("<head>", f"<head>{_WATCH}", 1) + _TELL % script, encoding="utf-8")
    switches = (
        *("--headless", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"),
        *(f"--user-data-dir={folder / 'profile'}", "--window-size=1500,950", "--virtual-time-budget=20000"),
        *("--dump-dom", f"--screenshot={folder / 'screenshot.png'}"),
    )
    command = [browser() or NAMES[0], *switches, watched.as_uri()]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    told = re.search(r'data-told="([^"]*)"', outcome.stdout)
    assert told, f"the page's scripts did not come to their end\n{outcome.stderr[-3000:]}"
    return json.loads(base64.b64decode(told[1]))
