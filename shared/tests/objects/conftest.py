import pytest

pytest.register_assert_rewrite("shared.objects.contract")
