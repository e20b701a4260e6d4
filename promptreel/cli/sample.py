"""`promptreel sample-film`: generate the short film that the default run uses."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("sample-film")
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False))
def sample_film(path: Path) -> None:
    """Generate a short sample film at PATH: moving shots, hard cuts, a cross-fade, sound with pauses."""
    from promptreel.media.sample_film import make_sample_film

    path.parent.mkdir(parents=True, exist_ok=True)
    make_sample_film(path)
    click.echo(f"wrote {path}", err=True)
