"""What `validate` says of `reports.to` before anybody connects."""

from pathlib import Path

import pytest

from overnight.schedule import ScheduleErrors, loads, refuse
from overnight.storage.address import half_a_pair, keys_out_of_sight

URL = "s3://reports/nightly"
FILE = 'version: 1\nreports: { to: "${REPORTS_TO}" }\njobs: {}\n'


@pytest.mark.parametrize(
    ("url", "said"),
    [("s3://Reports", "is no name of a bucket"), ("s3://reports/../all", "has an empty part"), ("s3://", "no bucket")],
)
def test_an_address_no_server_would_take_is_an_error_of_the_file(url: str, said: str) -> None:
    with pytest.raises(ScheduleErrors, match=said):
        loads(FILE, {"REPORTS_TO": url})


def test_half_a_pair_of_keys_is_named_at_its_place(tmp_path: Path) -> None:
    file = tmp_path / "schedule.yaml"
    file.write_text(FILE)
    findings = list(half_a_pair(URL, {"AWS_ACCESS_KEY_ID": "a"}))
    with pytest.raises(ScheduleErrors, match=r"schedule\.yaml:2:.*AWS_SECRET_ACCESS_KEY is not"):
        refuse(file, findings, ())
    assert not list(half_a_pair(URL, {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}))
    assert not list(half_a_pair("var/reports", {"AWS_ACCESS_KEY_ID": "a"}))


def test_keys_that_are_nowhere_are_a_warning_since_the_machine_may_have_a_role(tmp_path: Path) -> None:
    assert "no credentials are in sight" in next(keys_out_of_sight(URL, {}, tmp_path))
    for seen in ({"AWS_ACCESS_KEY_ID": "a"}, {"AWS_PROFILE": "ops"}, {"AWS_WEB_IDENTITY_TOKEN_FILE": "/t"}):
        assert not list(keys_out_of_sight(URL, seen, tmp_path))
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("")
    assert not list(keys_out_of_sight(URL, {}, tmp_path))
    assert not list(keys_out_of_sight("var/reports", {}, tmp_path))
