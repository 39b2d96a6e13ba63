import csv
import dataclasses
import io
import json
import os
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest

from minillm.course import outputs, results
from minillm.course.feedback import markdown
from minillm.course.feedback_page import page
from minillm.course.gradescope import results_json, results_table
from minillm.course.junit import junit_xml
from minillm.course.manifest import parse
from minillm.course.outputs import write_class, write_student, write_zero
from minillm.course.results import CheckResult, Grade
from minillm.course.submissions import Submission
from minillm.course.table import grades_csv, neutral, summary
from minillm.errors import UserError

EVIL = (
    "</pre><script>alert(1)</script> ```\n````\n# break\n\x1b[31m\x00\x0b\ud800\ufffe ]]> & | "
    "[x](javascript:alert(1)) <img src=http://e.vil/x onerror=alert(1)> \N{RIGHT-TO-LEFT OVERRIDE}"
)


@pytest.fixture
def assignment():
    """Two tasks; of the second's checks one is hidden and one shown late."""
    table = {
        "title": "Backpropagation | by hand",
        "version": "1.0",
        "hours": 6,
        "goals": [],
        "introduction": "",
        "task": [
            {
                "name": "softmax",
                "title": "Softmax",
                "parts": ["minillm.ops.softmax"],
                "prose": "",
                "points": 6,
                "hints": ["What does `sum` keep?", "Subtract **dout * y** first."],
            },
            {
                "name": "layer_norm",
                "title": "Layer normalisation",
                "parts": ["minillm.ops.layer_norm"],
                "prose": "",
                "check": [
                    {"name": "forward", "kind": "forward", "points": 2},
                    {"name": "dx", "kind": "gradient", "points": 4, "visibility": "after_due_date"},
                    {"name": "cost", "kind": "cost", "points": 1, "visibility": "hidden"},
                ],
            },
        ],
        "written": [
            {
                "question": "Why is `dx` orthogonal to a row of ones?",
                "points": 5,
                "rubric": [
                    {"points": 3, "text": "names the null space"},
                    {"points": 2, "text": "shows it"},
                ],
            }
        ],
    }
    return parse("hw3", Path("hw3"), table)


def graded(student="alice", status=results.HOLDS, reason="", detail="", **settings):
    """A Grade: softmax holds, layer_norm's dx comes out as `status`."""
    found = [
        CheckResult("softmax", "forward", "the output of softmax", 2, results.HOLDS),
        CheckResult("softmax", "dx", "dx, the gradient of x", 4, results.HOLDS),
        CheckResult("layer_norm", "forward", "the output of layer_norm", 2, results.HOLDS),
        CheckResult("layer_norm", "dx", "dx, the gradient of x", 4, status, reason, detail, 0.25),
        CheckResult("layer_norm", "cost", "the cost of backward", 1, results.HOLDS),
    ]
    made = {"seed": 123456789, "isolation": "another user", "results": found, "seconds": 1.5}
    return Grade(student, "hw3", "1.0", **(made | settings))


def zero(student="alice"):
    grade = graded(student)
    grade.results = [
        CheckResult(r.task, r.name, r.title, r.points, results.NOT_RUN) for r in grade.results
    ]
    return grade


# What https://gradescope-autograders.readthedocs.io/en/latest/specs/ says of results.json.
NUMBER, FORMATS = (int, float), {"text", "simple_format", "html", "md", "ansi"}
WHEN = {"hidden", "after_due_date", "after_published", "visible"}
TEST_FIELDS = {
    "score": NUMBER, "max_score": NUMBER, "status": {"passed", "failed"}, "name": str,
    "name_format": FORMATS, "number": str, "output": str, "output_format": FORMATS, "tags": list,
    "visibility": WHEN, "extra_data": dict,
}  # fmt: skip
TOP_FIELDS = {
    "score": NUMBER, "execution_time": NUMBER, "output": str, "output_format": FORMATS,
    "test_output_format": FORMATS, "test_name_format": FORMATS, "visibility": WHEN,
    "stdout_visibility": WHEN, "extra_data": dict, "tests": list, "leaderboard": list,
}  # fmt: skip


def validate(text):
    """The table of a results.json, after all that the specification says of it is checked."""

    def refuse(name):
        raise ValueError(f"{name} is no JSON")

    table = json.loads(text, parse_constant=refuse)
    text.encode("ascii")
    assert table.keys() <= TOP_FIELDS.keys()
    for fields, entry in [(TOP_FIELDS, table), *((TEST_FIELDS, test) for test in table["tests"])]:
        for key, value in entry.items():
            expected = fields[key]  # an unknown field is a KeyError
            if isinstance(expected, set):
                assert value in expected, (key, value)
            else:
                assert isinstance(value, expected), (key, value)
                assert not isinstance(value, bool)
        assert entry["score"] >= 0
    for test in table["tests"]:
        assert test["score"] <= test["max_score"]
        assert all(isinstance(tag, str) for tag in test["tags"])
    assert table["score"] == pytest.approx(sum(test["score"] for test in table["tests"]))
    return table


def test_the_validator_refuses_what_the_specification_does_not_have():
    good = {"score": 0, "tests": [{"score": 0, "max_score": 1, "tags": []}]}
    validate(json.dumps(good))
    for wrong in ({"points": 1}, {"score": "0"}, {"visibility": "never"}, {"score": 1}):
        with pytest.raises((AssertionError, KeyError)):
            validate(json.dumps(good | wrong))


@pytest.mark.parametrize("status", results.STATUSES)
def test_results_json_keeps_to_the_schema(assignment, status):
    grade = graded(status=status, reason=EVIL, detail=EVIL * 500)
    table = validate(results_json(assignment, grade, notes=[EVIL]))
    assert table["score"] == (13 if status == results.HOLDS else 9)
    dx = table["tests"][3]
    assert dx["status"] == ("passed" if status == results.HOLDS else "failed")
    assert dx["number"] == "2.2"
    assert [test["visibility"] for test in table["tests"]] == [
        "visible", "visible", "visible", "after_due_date", "hidden",
    ]  # fmt: skip
    assert "\ud800" not in dx["output"] + table["output"]
    assert len(dx["output"]) < 6000


def test_a_grade_that_took_no_finite_time_is_still_json(assignment):
    assert validate(results_json(assignment, graded(seconds=float("inf"))))["execution_time"] == 0


def seen_by_a_student(table, due=False):
    """The text that Gradescope shows: by the specification, extra_data is stored, not shown."""
    allowed = {"visible", "after_due_date"} if due else {"visible"}
    shown = [table["output"]]
    for test in table["tests"]:
        if test.get("visibility", table["visibility"]) in allowed:
            shown += [test["name"], test["output"], test["number"], *test["tags"]]
    return "\n".join(shown)


def test_no_student_sees_the_seed_or_a_hidden_check(assignment):
    grade = graded(status=results.FAILS, reason="secret reason")
    table = results_table(assignment, grade)
    assert table["stdout_visibility"] == "hidden"
    assert table["extra_data"]["seed"] == 123456789
    seen = seen_by_a_student(table)
    assert "123456789" not in seen
    assert "secret reason" not in seen
    assert "9 of 13" not in seen  # the total would tell of the check that is shown later
    assert "secret reason" in seen_by_a_student(table, due=True)
    for text in (markdown(assignment, grade), page(assignment, grade)):
        assert "123456789" not in text
        assert "the cost of backward" not in text
        assert "1 not shown" in text


def test_what_is_ours_to_fix_is_said_to_be_ours_everywhere(assignment):
    grade = graded(status=results.INCONCLUSIVE, reason="the check itself failed: boom")
    assert grade.earned == 9
    table = results_table(assignment, grade)
    texts = [markdown(assignment, grade), page(assignment, grade), table["tests"][3]["output"]]
    for text in texts:
        assert "our side" in text
        assert "boom" in text
        assert "Hint" not in text  # nothing of the student's is wrong
    assert ET.fromstring(junit_xml(assignment, [grade])).get("errors") == "1"
    assert ET.fromstring(junit_xml(assignment, [grade])).get("failures") == "0"
    overview = summary(assignment, [grade, graded("bob")], {})
    assert "## Ours to fix" in overview
    assert "1 of 2 students (alice)" in overview
    assert "Ours to fix" not in summary(assignment, [graded("bob")], {})
    row = next(csv.DictReader(io.StringIO(grades_csv([grade], {}))))
    assert row["inconclusive"] == "1"
    assert row["layer_norm/dx"] == "0"


def test_feedback_teaches(assignment):
    detail = "name     max difference\ncentred  0\ninv_std  0.31\n"
    grade = graded(status=results.FAILS, reason="dx differs by 0.3 at (0, 1)", detail=detail)
    grade.results[1] = CheckResult("softmax", "dx", "dx", 4, results.STUB, "raised")
    for text in (markdown(assignment, grade, ["mlp.py is not asked for"]), page(assignment, grade)):
        assert "5 of 13 points" in text
        assert "inv_std  0.31" in text
        assert "dx differs by 0.3 at (0, 1)" in text
        assert "not written yet" in text
        assert "names the null space" in text
        assert "What does" in text
    text = markdown(assignment, grade, ["mlp.py is not asked for"])
    assert "| dx, the gradient of x | does not hold | 0 of 4 |" in text
    assert "- mlp.py is not asked for" in text
    assert "| names the null space |  | of 3 |" in text
    # no hints for what holds
    assert "nudge" not in markdown(assignment, graded())


def test_a_formula_in_the_handout_is_readable_without_a_script(assignment):
    written = assignment.written[0]
    asked = dataclasses.replace(written, question=r"$\hat x$, $C \times C$, `a` < $\frac{1}{2}$")
    text = page(dataclasses.replace(assignment, written=(asked,)), graded())
    assert "<i>x\u0302</i>, <i>C × C</i>, <code>a</code> &lt; <i>(1)/(2)</i>" in text


def test_what_stops_every_check_is_told_once(assignment):
    grade = graded()
    grade.results = [
        CheckResult("softmax", f"c{i}", f"check {i}", 1, results.CRASHED, "it stopped", "oh\n" * i)
        for i in range(6)
    ]
    for text in (markdown(assignment, grade), page(assignment, grade)):
        assert text.count("it stopped") == 1
        assert "6 of these checks" in text
        assert text.count("check 3") == 1


class Page(HTMLParser):
    """Collects tags and attributes, and notes what is closed out of turn."""

    VOID = ("meta",)

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.open, self.wrong = set(), set(), [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def test_a_students_text_is_no_markup(assignment):
    grade = graded(student=EVIL, status=results.CRASHED, reason=EVIL, detail=EVIL)
    html = page(assignment, grade, [EVIL])
    found = Page(html)
    assert found.wrong == []
    assert found.open == []
    assert not found.tags & {"script", "img", "a", "iframe", "link", "object"}
    assert found.attributes <= {
        "lang", "charset", "name", "content", "http-equiv", "class", "style", "aria-hidden",
    }  # fmt: skip
    assert "alert(1)" in html
    assert not re.search("[\x00\x0b\x1b\ud800\u202e]", html)

    text = markdown(assignment, grade, [EVIL])
    assert not re.search("[\x00\x0b\x1b\ud800\u202e]", text)
    render = pytest.importorskip("markdown_it").MarkdownIt("commonmark", {"linkify": False})
    tokens = render.enable("table").parse(text)
    leaves = [leaf for token in tokens for leaf in (token.children or [token])]
    kinds = {leaf.type for leaf in leaves}
    assert not kinds & {"link_open", "image", "html_inline", "html_block"}, kinds
    headings = [tokens[i + 1].content for i, t in enumerate(tokens) if t.type == "heading_open"]
    assert "break" not in headings
    (block,) = [token for token in tokens if token.type == "fence"]
    assert block.content.startswith("</pre><script>")


def test_junit_is_xml_that_holds_anything(assignment):
    grades = [
        graded(student=EVIL, status=results.CRASHED, reason=EVIL, detail=EVIL),
        graded(status=results.INCONCLUSIVE),
        zero("carol"),
        graded("dan"),
    ]
    root = ET.fromstring(junit_xml(assignment, grades))
    assert root.tag == "testsuites"
    assert {k: root.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "20", "failures": "1", "errors": "1", "skipped": "5",
    }  # fmt: skip
    suites = root.findall("testsuite")
    assert [suite.get("name") for suite in suites][1:] == ["alice", "carol", "dan"]
    assert len(suites[0].findall("testcase")) == 5
    assert "\\x1b[31m\\x00" in suites[0].find("testcase/failure").text
    assert suites[1].find("testcase/error") is not None


def test_the_table_is_csv_that_no_spreadsheet_runs(assignment):
    names = ['=HYPERLINK("http://e.vil")', "+1", "-1", "@x", 'a,b\n"c"', " =1"]
    text = grades_csv([graded(name) for name in names], {"+1": ["=note", "second"]})
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 6
    for row in rows:
        assert all(not cell.startswith(("=", "+", "-", "@")) for cell in row.values())
    assert rows[0]["student"] == '\'=HYPERLINK("http://e.vil")'
    assert rows[4]["student"] == 'a,b "c"'
    assert rows[1]["note"] == "'=note; second"
    assert rows[0]["score"] == "13"
    assert rows[0]["percent"] == "100.0"
    assert rows[0]["softmax/dx"] == "4"
    assert rows[0]["seed"] == "123456789"
    assert neutral("plain-text") == "plain-text"


def test_the_summary_says_how_many_hold_each_check(assignment):
    grades = [graded(f"s{i}") for i in range(3)] + [graded("x", results.TIME)]
    text = summary(assignment, grades, {"x": ["mlp.py is missing"]})
    assert "| dx, the gradient of x | 3 of 4 | 75% | 1 out of time |" in text
    assert "4 submissions" in text
    assert "median 100.0" in text
    assert "- x: mlp.py is missing" in text


def handed_in(*students):
    return [Submission(name, name) for name in students]


def test_zeros_come_first_and_are_valid(assignment, tmp_path):
    people = handed_in("alice", "bob")
    out = tmp_path / "new" / "out"
    write_student(out, assignment, graded("alice"), people[0])  # of an earlier run
    write_zero(out, assignment, [zero("alice"), zero("bob")], people)
    for person in people:
        table = validate((out / person.folder / "results.json").read_text())
        assert table["score"] == 0
        assert all("Not run" in test["output"] for test in table["tests"])
        assert os.listdir(out / person.folder) == ["results.json"]
    rows = list(csv.DictReader(io.StringIO((out / "grades.csv").read_text())))
    assert [(row["student"], row["score"], row["max"]) for row in rows] == [
        ("alice", "0", "13"), ("bob", "0", "13"),
    ]  # fmt: skip
    assert rows[0]["note"] == "5 of 5 checks not run"


def test_a_grader_that_is_stopped_leaves_whole_files(assignment, tmp_path, monkeypatch):
    people = handed_in("alice", "bob")
    write_zero(tmp_path, assignment, [zero("alice"), zero("bob")], people)
    write_student(tmp_path, assignment, graded("alice"), people[0])

    def stopped(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(outputs, "results_json", stopped)
    with pytest.raises(KeyboardInterrupt):
        write_student(tmp_path, assignment, graded("bob"), people[1])
    scores = [validate((tmp_path / p.folder / "results.json").read_text()) for p in people]
    assert [table["score"] for table in scores] == [13, 0]


def test_all_files_are_there(assignment, tmp_path):
    people = handed_in("alice")
    write_zero(tmp_path, assignment, [zero()], people)
    write_student(tmp_path, assignment, graded(), people[0])
    write_class(tmp_path, assignment, [graded()], people)
    found = sorted(str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file())
    assert found == [
        "alice/feedback.html", "alice/feedback.md", "alice/results.json",
        "grades.csv", "junit.xml", "summary.md",
    ]  # fmt: skip


def test_a_missing_file_is_told_to_student_and_instructor(assignment, tmp_path):
    (person,) = handed_in("alice")
    person.missing, person.notes = ["softmax.py"], ["not asked for, not read: notes.txt"]
    write_student(tmp_path, assignment, graded(), person)
    write_class(tmp_path, assignment, [graded()], [person])
    for name in ("alice/feedback.md", "alice/feedback.html", "grades.csv", "summary.md"):
        assert "not handed in: softmax.py" in (tmp_path / name).read_text(), name
    table = validate((tmp_path / "alice" / "results.json").read_text())
    assert "not handed in: softmax.py" in table["output"]


def test_a_place_that_cannot_be_written_is_the_users_mistake(assignment, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="cannot make the folder"):
        write_zero(tmp_path / "out", assignment, [zero()], handed_in("alice"))
