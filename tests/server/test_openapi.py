"""The service and its OpenAPI document agree, in tests that schemathesis generates."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
OPERATIONS = 37


@pytest.mark.parametrize(
    ("seed", "options"),
    [
        (1, ["--max-examples", "10"]),
        pytest.param(2, ["--max-examples", "10"], marks=pytest.mark.endurance),
        *(pytest.param(seed, [], marks=pytest.mark.endurance) for seed in range(10)),
        *(
            pytest.param(seed, ["--max-examples", "300"], marks=pytest.mark.endurance)
            for seed in (10, 11, 12)
        ),
    ],
)
def test_the_service_conforms_to_its_document(service, tmp_path, seed, options):
    """Answers and refusals match the document, and each operation succeeds at least once.

    All checks of schemathesis are on, with their default settings.
    """
    answers_file = tmp_path / "answers"
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("schemathesis"), "--no-color"),
            *("run", f"{service.url}/openapi.json", "--continue-on-failure"),
            *("--seed", str(seed), *options),
        ],
        cwd=tmp_path,
        env=os.environ
        | {
            "SCHEMATHESIS_HOOKS": "openapi_hooks",
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
            "SERVICE": service.url,
            "ANSWERS": str(answers_file),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-20_000:]
    assert f"Tested: {OPERATIONS}" in done.stdout
    answers = {tuple(line.rsplit(" ", 1)) for line in answers_file.read_text().splitlines()}
    succeeded = {operation for operation, status in answers if status[0] == "2"}
    assert len(succeeded) == OPERATIONS, " ".join(sorted(succeeded))
    assert "Traceback" not in service.log
