#!/usr/bin/env bash
# Builds a MinIO server for tests/tables/test_object_store.py, which skips its tests against it otherwise. Needs Go; takes minutes.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VERSION=${MINIO_VERSION:-v0.0.0-20260212201848-7aac2a2c5b7c}
target=${1:-${PROMPTREEL_VENV:-$PWD/.venv}/servers}
command -v go >/dev/null || { echo "building MinIO needs Go; install it, or put a binary in $target" >&2; exit 2; }
mkdir -p "$target"
GOBIN=$(cd "$target" && pwd) GOFLAGS=-trimpath go install "github.com/minio/minio@$VERSION"
echo "$target/minio"
