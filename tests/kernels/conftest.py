import pytest

from tests.kernels.harness import Place


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)], scope="session")
def place(request):
    """Where a test's kernels run: interpreted or emulated on the CPU, or on a GPU (`-m gpu`)."""
    return Place(request.param)
