import os

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


def pytest_configure(config):
    # Triton decides at import whether it interprets; only `-m gpu` wants its kernels compiled.
    if "gpu" not in config.option.markexpr:
        os.environ["TRITON_INTERPRET"] = "1"
        os.environ["MINILLM_EMULATE"] = "1"
    else:  # a warning of CuPy's, torch's or Triton's on some machine is no fault of a kernel
        config.addinivalue_line("filterwarnings", "default")


def pytest_ignore_collect(collection_path, config):
    """What looks at the built site in a browser runs by `make site-test`, which names it."""
    if collection_path.name == "site" and collection_path.parent.name == "tests":
        return not any("tests/site" in arg for arg in config.args) or None
    return None


def pytest_collection_modifyitems(config, items):
    """What needs a GPU runs by `pytest -m gpu` alone."""
    if "gpu" in config.option.markexpr:
        return
    needs = [item for item in items if item.get_closest_marker("gpu")]
    if needs:
        config.hook.pytest_deselected(items=needs)
        items[:] = [item for item in items if not item.get_closest_marker("gpu")]
