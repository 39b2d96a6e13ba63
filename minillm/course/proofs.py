"""What is proved before an assignment goes out.

1. No statement of a solution survives in any file, in normalised form.
2. No check is passed by what is handed out; each says "not implemented".
3. The reference passes every check,
4. and does so while the later tasks are not done: no check needs a later task's code.
"""

import ast
import re

from minillm.course import cuda_source, results, source
from minillm.errors import UserError

__all__ = ["prove", "solution_statements", "survivors"]

SEEDS = (0, 1)  # the public one, and another
SHORTEST = 8  # characters of a squeezed statement that is looked for in plain text


def prove(assignment, grader_of, plan, files, *, progress=None):
    """Raise a UserError that names what does not hold, or return the number of proofs.

    Parameters
    ----------
    assignment : Assignment
    grader_of : function seed -> Grader
    plan : Plan, of the variant that is released
    files : {name: text}, everything that is to be handed out
    progress : function progress(what), called before each step
    """
    tell = progress or (lambda what: None)
    tell("no statement of a solution survives")
    found = survivors(assignment, plan.modules, files)
    if found:
        name, statement = found[0]
        raise UserError(
            f"{assignment.name} is not released: {name} still holds a statement of the solution: "
            f"{statement}"
        )
    variant = plan.modules.variant
    starters = {name: files[name].encode() for name in plan.modules.handed_in}
    tell("what is handed out passes no check")
    grade = grader_of(SEEDS[0]).grade("starter", starters, variant=variant)
    bugs = {task.name for task in assignment.tasks if task.bugs}
    for result in grade.results:
        wanted = (results.FAILS, results.CRASHED) if result.task in bugs else (results.STUB,)
        if result.status not in wanted:
            raise UserError(
                f"{assignment.name} is not released: without any work, check {result.name!r} of "
                f"task {result.task} is: {result.status} {result.reason}".rstrip()
            )
    solutions = {name: plan.modules.all[name[:-3]].text.encode() for name in plan.modules.handed_in}
    for seed in SEEDS:
        tell(f"the reference passes every check, with seed {seed}")
        grade = grader_of(seed).grade("reference", solutions, variant=variant)
        for result in grade.results:
            if result.status == results.STUB:
                raise UserError(
                    f"{assignment.name} is not released: check {result.name!r} of task "
                    f"{result.task} needs the code of a later task: {result.reason}"
                )
            if result.status != results.HOLDS:
                raise UserError(
                    f"{assignment.name} is not released: the reference does not pass check "
                    f"{result.name!r} of task {result.task} with seed {seed}: {result.status}, "
                    f"{result.reason}"
                )
    return len(grade.results)


def solution_statements(assignment, modules):
    """The normalised statements of all solutions, but those that the manifest allows."""
    allowed = set(assignment.handout.get("allow", ()))
    bugs = {task.name for task in assignment.tasks if task.bugs}
    found: set[str] = set()
    for module in modules.all.values():
        names = [name for asked in module.functions.values() for name in asked]
        if module.cuda:
            asked = names and not assignment.handout.get("omit", {}).get(module.dotted)
            found |= cuda_source.statements(module.text) if asked else set()
            continue
        statements = source.statements(module.text, names) if names else set()
        if bugs & module.functions.keys():  # the mended statements alone are the solution
            statements -= source.statements(modules.starter(module.flat), names)
        found |= statements
    return found - allowed


def survivors(assignment, modules, files):
    """[(file, statement)] of the solution's statements that some texts hold."""
    wanted = solution_statements(assignment, modules)
    found = []
    for name, text in files.items():
        whole = _statements_of(text) if name.endswith(".py") else set()
        squeezed = _squeezed(text)
        for statement in sorted(wanted):
            short = _squeezed(statement)
            if statement in whole or (len(short) >= SHORTEST and _holds(squeezed, short)):
                found.append((name, statement))
    return found


def _statements_of(text):
    nodes = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.stmt)]
    return {source.normalised(n) for n in nodes if source.says_something(n)}


def _squeezed(text):
    """A text without blanks, its quotes all alike; lines stay lines."""
    return re.sub(r"[ \t]+", "", text).replace('"', "'").replace("\\'", "'")


def _holds(text, statement):
    """Whether a text without blanks holds a statement, and not as part of a longer one."""
    longer = r"[\w.(\[+\-*/@%&|^<>=]"
    pattern = rf"(?<!{longer}){re.escape(statement)}(?!{longer})"
    return re.search(pattern, text) is not None
