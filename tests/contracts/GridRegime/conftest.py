from tests.fixtures.flexibility import *  # noqa: F403
