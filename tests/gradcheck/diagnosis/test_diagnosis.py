"""Wrong backwards get the name of their mistake, others no name at all."""

import numpy as np
import pytest

from minillm.gradcheck import check_vjp, diagnosis
from tests.gradcheck.diagnosis.mistakes import MISTAKES

SEEDS = range(4)


@pytest.fixture(autouse=True)
def no_rule_stumbles(monkeypatch):
    """A rule that raises is heard here."""
    monkeypatch.setattr(diagnosis, "STUMBLES", ())


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_named(name, seed):
    causes, forward, backward, draw = MISTAKES[name]
    args, kwargs = draw(np.random.default_rng([seed, len(name)]))
    report = check_vjp(forward, backward, args, kwargs, seed=seed)
    assert report.verdict == "fail"
    named = [(d.cause, d.likelihood, d.message) for d in report.diagnoses]
    assert named and named[0][0] in causes, f"{named}\n{[np.shape(a) for a in args]}"
