import pytest

from minillm.bench import classical, cpu


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], (None, {"match": ""})),
        (["--json", "b.json", "--match", "LSTM"], ("b.json", {"match": "LSTM"})),
        (["--rounds", 7], (None, {"match": "", "rounds": 7})),
    ],
)
def test_bench_cpu_hands_over(minillm, monkeypatch, args, expected):
    calls = []

    def run(json_path=None, *, report, **options):
        calls.append((json_path, options))
        report("a row")

    monkeypatch.setattr(cpu, "run", run)
    done = minillm("bench", "cpu", *args)
    assert (done.code, done.out, done.err) == (0, "a row\n", "")
    assert calls == [expected]


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], (None, {"match": "", "lmplz": None})),
        (["--lmplz", "x", "--rounds", 2], (None, {"match": "", "lmplz": "x", "rounds": 2})),
    ],
)
def test_bench_classical_hands_over(minillm, monkeypatch, args, expected):
    calls = []

    def run(json_path=None, *, report, **options):
        calls.append((json_path, options))
        report("a row")

    monkeypatch.setattr(classical, "run", run)
    done = minillm("bench", "classical", *args)
    assert (done.code, done.out, done.err) == (0, "a row\n", "")
    assert calls == [expected]
