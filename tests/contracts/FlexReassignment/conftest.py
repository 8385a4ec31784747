from tests.fixtures.flexworld import *  # noqa: F403
