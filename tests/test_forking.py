"""The process that forks for the tests."""

import socket
from multiprocessing import forkserver

from tests.support.forking import FORKING
from tests.support.waiting import PATIENCE


def test_a_client_that_is_killed_ends_nothing():
    """It has connected, and not yet said what to start: the others are served on."""
    first = FORKING.Process(target=print)
    first.start()
    first.join(PATIENCE)
    pid = forkserver._forkserver._forkserver_pid
    for _ in range(3):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(forkserver._forkserver._forkserver_address)
    second = FORKING.Process(target=print)
    second.start()
    second.join(PATIENCE)
    assert (first.exitcode, second.exitcode) == (0, 0)
    assert forkserver._forkserver._forkserver_pid == pid
