#!/usr/bin/env bash
# Run promptreel on this machine. Creates a virtual environment on first use.
#
#   ./run_local.sh                    run the built-in prompt and model on a generated sample film, and write report.html
#   ./run_local.sh FILE|FOLDER ...    run them on your media (further options: promptreel run --help)
#   ./run_local.sh serve [OPTIONS]    serve the prompt-run API (options: promptreel serve --help)
#   ./run_local.sh test [ARGS]        run the tests, without slow ones (ARGS go to pytest; slow ones: -m slow -n 0)
#   ./run_local.sh check              check lint, vocabulary and types
#   ./run_local.sh bench [NAME]       run all benchmarks, or one
set -euo pipefail
started_in=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"

VENV=${PROMPTREEL_VENV:-$PWD/.venv}
RUN_EXTRAS=speech,ocr
TEST_EXTRAS=speech,ocr,clip,api,gcp,s3,dev

find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
    if command -v "$candidate" >/dev/null &&
      "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "promptreel needs Python 3.11, 3.12 or 3.13; install one, or set PYTHON=/path/to/python" >&2
  exit 2
}

# install EXTRAS: creates or updates the virtual environment; does nothing if it is up to date.
install() {
  local extras=$1 python stamp checksum
  stamp="$VENV/.installed-$extras"
  checksum=$(cat setup.py requirements-run.txt constraints.txt | cksum)
  if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$checksum" ]; then
    return
  fi
  python=$(find_python)
  [ -x "$VENV/bin/python" ] || { echo "creating the virtual environment $VENV" >&2; "$python" -m venv "$VENV"; }
  echo "installing promptreel[$extras] (first use or changed requirements)" >&2
  "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$extras]"
  echo "$checksum" > "$stamp"
}

# The published API clients, each in its own folder because both have the same package name. Only they need httpx.
install_published_clients() {
  local version folder
  for version in 1.1.0 2.0.0; do
    folder="$VENV/clients/$version"
    [ -f "$folder/.installed" ] && continue
    echo "installing the client videovector $version (first use)" >&2
    rm -rf "$folder"
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt \
      --target "$folder" "videovector==$version" httpx httpcore && touch "$folder/.installed" ||
      echo "videovector $version could not be installed; its tests are skipped" >&2
  done
}

case "${1:-}" in
  test)
    shift
    install $TEST_EXTRAS
    install_published_clients
    # Four processes even on fewer cores: many tests wait for leases, outages and deadlines. A later -m or -n wins.
    exec "$VENV/bin/python" -m pytest -m "not slow" -n 4 --dist worksteal "$@"
    ;;
  check)
    install $TEST_EXTRAS
    "$VENV/bin/ruff" check .
    "$VENV/bin/python" -m pytest -q tests/test_vocabulary.py
    # mypy does not understand setup.py's package_dir, so it checks a tree of links with the installed layout.
    rm -rf build/mypy && mkdir -p build/mypy && cp -rs "$PWD/promptreel" build/mypy/
    for folder in schemas media providers tables transforms pipelines pages api; do
      ln -s "$PWD/$folder" "build/mypy/promptreel/$folder"
    done
    MYPYPATH=build/mypy exec "$VENV/bin/mypy"
    ;;
  bench)
    shift
    install $TEST_EXTRAS,bench
    exec "$VENV/bin/python" -m benchmarks "$@"
    ;;
  -h | --help)
    sed -n '2,10s/^# \{0,1\}//p' run_local.sh
    ;;
  serve)
    shift
    install $RUN_EXTRAS,api
    cd "$started_in"
    exec "$VENV/bin/promptreel" serve "$@"
    ;;
  *)
    install $RUN_EXTRAS
    cd "$started_in" # the user's paths are relative to the working directory
    if [ $# -eq 0 ]; then
      film=${PROMPTREEL_DATA:-promptreel-data}/sample/sample_film.mp4
      [ -f "$film" ] || "$VENV/bin/promptreel" sample-film "$film"
      set -- "$film"
    fi
    exec "$VENV/bin/promptreel" run --model signals --prompt measure_and_read --report report.html "$@"
    ;;
esac
