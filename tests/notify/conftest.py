import pytest
from hook_server import hook_server


@pytest.fixture
def hooks():
    with hook_server() as server:
        yield server
