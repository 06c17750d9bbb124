"""Add up JUnit reports: `python .ci/total.py REPORT…` says what failed and why, and prints one line of sums.

Fails when a test did, or when none ran.
"""

import sys
from xml.etree import ElementTree

LAST_LINES = 25

suites = [suite for path in sys.argv[1:] for suite in ElementTree.parse(path).iter("testsuite")]  # noqa: S314 - our own reports


def _sum(*names: str) -> int:
    return sum(int(suite.get(name, 0)) for suite in suites for name in names)


def _tell(case: ElementTree.Element) -> None:
    for found in (*case.findall("failure"), *case.findall("error")):
        lines = (found.text or found.get("message") or "").splitlines()
        print(f"--- ERROR {case.get('classname')}::{case.get('name')}", *lines[-LAST_LINES:], sep="\n    ")


for suite in suites:
    for case in suite.iter("testcase"):
        _tell(case)
failed, skipped = _sum("failures", "errors"), _sum("skipped")
passed = _sum("tests") - failed - skipped
print(f"{passed} passed, {failed} failed, {skipped} skipped")
sys.exit(failed > 0 or passed == 0)
