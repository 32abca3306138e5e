"""The command line as a whole."""

import os
import subprocess
import sys

import pytest

from numpy_vae.__main__ import main


def test_the_command_and_the_module_are_the_same(folder):
    script = os.path.join(os.path.dirname(sys.executable), "numpy-vae")
    for command in ([script], [sys.executable, "-m", "numpy_vae"]):
        result = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)
        assert result.stdout == "numpy-vae 0.1.0\n"


def test_no_command_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as stop:
        main([])
    assert stop.value.code == 2 and "COMMAND" in capsys.readouterr().err
