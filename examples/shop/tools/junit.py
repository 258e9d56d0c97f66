"""Run the unittest tests of a folder and write a JUnit report: ``python3 junit.py FOLDER REPORT.xml``.

Standard library only. Exit status 1 if a test failed.
"""

import sys
import time
import unittest
from pathlib import Path
from xml.etree import ElementTree


class Recorder(unittest.TextTestResult):
    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.suite = ElementTree.Element("testsuite")
        self.case = self.suite

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.began = time.perf_counter()
        self.case = ElementTree.SubElement(
            self.suite, "testcase", classname=type(test).__qualname__, name=test.id().rpartition(".")[2]
        )

    def stopTest(self, test: unittest.TestCase) -> None:
        self.case.set("time", f"{time.perf_counter() - self.began:.3f}")
        self.case = self.suite
        super().stopTest(test)

    def note(self, kind: str, text: str) -> None:
        if self.case is self.suite:  # a fixture of a class or module, outside of any test
            self.case = ElementTree.SubElement(self.suite, "testcase", name="fixture")
        if self.case.find(kind) is None:
            ElementTree.SubElement(self.case, kind, message=text.strip().rpartition("\n")[2]).text = text

    def addFailure(self, test: unittest.TestCase, err: object) -> None:
        super().addFailure(test, err)
        self.note("failure", self.failures[-1][1])

    def addError(self, test: unittest.TestCase, err: object) -> None:
        super().addError(test, err)
        self.note("error", self.errors[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: object) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note("failure", f"{subtest}: {err[1]!r}")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        ElementTree.SubElement(self.case, "skipped", message=reason)


def main() -> int:
    folder, report = Path(sys.argv[1]), Path(sys.argv[2])
    tests = unittest.defaultTestLoader.discover(str(folder / "tests"), top_level_dir=str(folder))
    result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2, resultclass=Recorder).run(tests)
    suite = result.suite
    suite.attrib.update(
        name=folder.resolve().name,
        tests=str(len(suite)),
        failures=str(len(suite.findall("testcase/failure"))),
        errors=str(len(suite.findall("testcase/error"))),
        skipped=str(len(suite.findall("testcase/skipped"))),
    )
    report.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.ElementTree(suite).write(report, encoding="utf-8", xml_declaration=True)
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
