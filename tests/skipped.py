"""`python -m tests.skipped REPORT MODULE`: say in one line which tests of a module did not run, and why; else nothing.

REPORT: what pytest wrote with --junit-xml. For CI (.ci/run), where a skipped test is easily overlooked.
"""

import sys
from xml.etree import ElementTree


def what_did_not_run(report, module):
    cases = [case for case in ElementTree.parse(report).iter("testcase") if case.get("classname") == module]
    skips = [skip for case in cases for skip in case.iter("skipped")]
    if cases and not skips:
        return ""
    reasons = dict.fromkeys(skip.get("message").partition("\n")[0] for skip in skips) or ["pytest did not collect them"]
    count = f"{len(skips)} of {len(cases)}" if cases else "the"
    return f"NOT RUN: {count} tests of {module}: {'; '.join(reasons)}"


if __name__ == "__main__":
    if told := what_did_not_run(*sys.argv[1:]):
        print(told)
