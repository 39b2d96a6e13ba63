import hypothesis

# Deterministic, so that a red run can be repeated; `--hypothesis-profile=long` draws many more.
hypothesis.settings.register_profile("default", max_examples=20, deadline=None, derandomize=True)
hypothesis.settings.register_profile("long", max_examples=300, deadline=None)
hypothesis.settings.load_profile("default")


def pytest_addoption(parser):
    parser.addoption(
        "--gradcheck-cases",
        type=int,
        default=10_000,
        metavar="N",
        help="right but awkward cases that the gradient checker must not fail (default 10000)",
    )
