"""The description of an exported generator, as programs read it."""

from sfd_sweep.export.description import Origin

ORIGIN = Origin(source="models/teacher", sha256=None, license="mit")


def test_an_origin_survives_a_round_trip_through_json() -> None:
    assert Origin.model_validate_json(ORIGIN.model_dump_json()) == ORIGIN


def test_the_license_in_an_older_export_is_read() -> None:
    older = ORIGIN.model_dump_json().replace('"license"', '"licence"')
    assert Origin.model_validate_json(older) == ORIGIN
