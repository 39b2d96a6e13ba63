"""Results as JUnit XML: a testsuite a student, a testcase a check.

There is no standard behind the name; this is the part that CI servers agree on: failures are the
student's, errors are ours, skipped is what was not run. The text is what XML 1.0 can hold.
"""

import math
import xml.etree.ElementTree as ET

from minillm.course import results
from minillm.course.feedback import reason, words
from minillm.course.plain import bounded, clean, one_line

__all__ = ["junit_xml"]

TAGS = {results.INCONCLUSIVE: "error", results.NOT_RUN: "skipped"}


def junit_xml(assignment, grades):
    """The bytes of junit.xml for all Grades."""
    root = ET.Element("testsuites", name=f"{assignment.name} {one_line(assignment.version)}")
    totals = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for grade in grades:
        suite = _suite(assignment, grade)
        root.append(suite)
        for key in totals:
            totals[key] += int(suite.get(key, 0))
    for key, value in totals.items():
        root.set(key, str(value))
    root.set("time", _seconds(sum(grade.seconds for grade in grades)))
    ET.indent(root, " ")
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def _suite(assignment, grade):
    tags = [_tag(result) for result in grade.results]
    suite = ET.Element(
        "testsuite",
        name=one_line(grade.student),
        tests=str(len(tags)),
        failures=str(tags.count("failure")),
        errors=str(tags.count("error")),
        skipped=str(tags.count("skipped")),
        time=_seconds(grade.seconds),
    )
    properties = ET.SubElement(suite, "properties")
    for name in ("seed", "isolation", "variant"):
        value = one_line(str(getattr(grade, name)), 600)
        ET.SubElement(properties, "property", name=name, value=value)
    for result, tag in zip(grade.results, tags, strict=True):
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"{assignment.name}.{one_line(result.task)}",
            name=one_line(f"{result.name}: {result.title}"),
            time=_seconds(result.seconds),
        )
        if tag:
            message = reason(result) or words(result)
            problem = ET.SubElement(case, tag, message=message, type=result.status)
            if result.detail.strip():
                problem.text = bounded(clean(result.detail))
    return suite


def _tag(result):
    return "" if result.status == results.HOLDS else TAGS.get(result.status, "failure")


def _seconds(value):
    return f"{value:.3f}" if math.isfinite(value) else "0"
