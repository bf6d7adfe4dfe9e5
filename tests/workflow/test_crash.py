"""Whatever is killed, the plain command goes on and ends with the same bytes."""

import pytest

pytestmark = pytest.mark.slow
