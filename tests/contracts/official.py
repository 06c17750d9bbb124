"""The official JSON Schema of AsyncAPI 3.0, from the package that its makers publish (npm, @asyncapi/specs). It is for
tests only, so it is fetched into .cache once, pinned by its digest, and no part of the repository."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any, Final

PACKAGE: Final = "@asyncapi/specs@6.11.1"
MEMBER: Final = "package/schemas/3.0.0-without-$id.json"
SHA256: Final = "abe96881dbfaad495ccbb6bd8d3fb43ca18a13b9d7564849ccb66f39d5e5b20f"
CACHED: Final = Path(__file__).parents[2] / ".cache" / "asyncapi-3.0.0.json"
FETCH_S: Final = 60.0


def official_schema() -> dict[str, Any] | None:
    """The schema; None without npm or network. Raises AssertionError when it is not the one that we pinned."""
    raw = CACHED.read_bytes() if CACHED.exists() else _fetched()
    if raw is None:
        return None
    assert hashlib.sha256(raw).hexdigest() == SHA256, f"{CACHED}: not the schema of {PACKAGE}; remove it"
    if not CACHED.exists():
        CACHED.parent.mkdir(parents=True, exist_ok=True)
        waiting = CACHED.with_suffix(f".{os.getpid()}")
        waiting.write_bytes(raw)
        waiting.replace(CACHED)
    found: dict[str, Any] = json.loads(raw)
    return found


def _fetched() -> bytes | None:
    folder = CACHED.parent / f"asyncapi-{os.getpid()}"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            ["npm", "pack", PACKAGE, "--silent"],
            cwd=folder,
            capture_output=True,
            timeout=FETCH_S,
            check=False,
        )
        packed = next(folder.glob("*.tgz"), None)
        if done.returncode != 0 or packed is None:
            return None
        with tarfile.open(fileobj=io.BytesIO(packed.read_bytes())) as archive:
            member = archive.extractfile(MEMBER)
            return member.read() if member else None
    except (OSError, subprocess.TimeoutExpired):
        return None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
