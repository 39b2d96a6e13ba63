"""The grader's own answers: minillm itself, called as a student's code is."""

import importlib
import importlib.util
import inspect
import sys

import minillm
from minillm.course import cuda_files, drive
from minillm.course.watching import watched
from minillm.errors import UserError

__all__ = ["Reference"]


class Reference:
    """The grader's own answers: the same drivers, on minillm."""

    def __init__(self, assignment, modules):
        self.assignment, self.modules = assignment, modules
        self.cases = _own_module(assignment, "cases")
        self.drivers = _own_module(assignment, "drive")

    def __call__(self, flat):
        """The module of minillm that has this name in a student's folder."""
        if self.modules.all[flat].cuda:
            return cuda_files.as_reference(self.modules.all[flat].text)
        return importlib.import_module(self.modules.all[flat].dotted)

    def drive(self, name, case, watch=None):
        """(result, seen) of a driver on the reference."""
        driver = self.function(name, self.drivers, drive)

        def run():
            with minillm.backend("numpy"):
                return driver(self, {}, case)

        if watch is None:
            return run(), {}
        return watched(watch["functions"], watch["names"], None, run)

    def function(self, name, *places):
        """A function of cases.py or drive.py by its name.

        Raises
        ------
        UserError
            where there is none.
        """
        for place in places or (self.cases,):
            if place is not None and hasattr(place, name):
                return getattr(place, name)
        raise UserError(f"{self.assignment.name} names {name}, which its files do not have")


def _own_module(assignment, name):
    """An assignment's cases.py or drive.py, imported; None where it has none."""
    path = assignment.folder / f"{name}.py"
    if not path.is_file():
        return None
    full = f"minillm_course_{assignment.name}_{name}"
    known = sys.modules.get(full)
    if known is not None and inspect.getfile(known) == str(path):
        return known
    spec = importlib.util.spec_from_file_location(full, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[full] = module
    spec.loader.exec_module(module)
    return module
