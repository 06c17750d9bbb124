"""Add up JUnit reports: `python .ci/total.py REPORT…` prints one line, and fails when a test did or none ran."""

import sys
from xml.etree import ElementTree

suites = [suite for path in sys.argv[1:] for suite in ElementTree.parse(path).iter("testsuite")]  # noqa: S314 - our own reports


def _sum(*names: str) -> int:
    return sum(int(suite.get(name, 0)) for suite in suites for name in names)


failed, skipped = _sum("failures", "errors"), _sum("skipped")
passed = _sum("tests") - failed - skipped
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(failed > 0 or passed == 0)
