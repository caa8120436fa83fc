"""Every factory makes what the models accept."""

import pytest

from tests import factories

ALL = [
    value
    for value in vars(factories).values()
    if isinstance(value, type) and issubclass(value, factories.DjangoModelFactory) and value._meta.model is not None
]


@pytest.mark.django_db
@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_a_factory_makes_a_valid_row(make: type) -> None:
    row = make()
    row.full_clean()
    assert type(row).objects.filter(pk=row.pk).exists()
