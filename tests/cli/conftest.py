"""Media and a finished run, shared by the tests of the commands."""

import pytest

from tests.cli.in_process import FIXED_SEGMENTS
from tests.pipeline_runs import make_audio, make_image, make_video, promptreel


@pytest.fixture(scope="session")
def media(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    make_video(folder / "a film.mp4", 4)
    make_audio(folder / "b.flac", 2)
    make_image(folder / "c.png")
    (folder / "d.mp4").write_text("no film")
    return folder


@pytest.fixture(scope="session")
def finished_run(media, tmp_path_factory):
    """(data folder with a space in its name, run id, exit code, output, errors) of a run over `media`."""
    data = tmp_path_factory.mktemp("data") / "my data"
    code, out, err = promptreel("run", media, *FIXED_SEGMENTS, "--data-dir", data, "--model", "signals")
    (folder,) = (data / "runs").iterdir()
    return data, folder.name, code, out, err
