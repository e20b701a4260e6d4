"""Start-up errors of `promptreel serve` and `promptreel keys`."""

import socket

import pytest

from tests.cli.in_process import invoke


@pytest.mark.parametrize("command", [["keys", "list"], ["serve"]])
def test_database_error_hides_the_password(tmp_path, command):
    (tmp_path / "file").write_text("")
    code, _, err = invoke(*command, "--data-dir", tmp_path / "file")
    assert (code, "cannot be opened" in err, str(tmp_path / "file") in err) == (2, True, True)
    for url in ("postgresql://u:pw_hunter2@127.0.0.1:1/x", "mysql://u:pw_hunter2@h/x", "nonsense"):
        code, _, err = invoke(*command, "--data-dir", tmp_path, env={"DATABASE_URL": url})
        assert (code, "cannot be opened" in err, "pw_hunter2" in err, "Traceback" in err) == (2, True, False, False)


def test_port_in_use_is_rejected_before_the_service_starts(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        code, _, err = invoke("serve", "--port", port, "--data-dir", tmp_path)
    assert (code, f"cannot listen on 127.0.0.1 port {port}" in err) == (2, True)
