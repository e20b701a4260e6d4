"""llama.cpp's server with a tiny random model on a free local port; tests/build_llama_server.sh builds it."""

from tests.server_process import ServerProcess, find_server
from tests.tiny_gguf import write_tiny_gguf, write_tiny_mmproj

LLAMA_VARIABLE = "PROMPTREEL_TEST_LLAMA_SERVER"


def find_llama_server():
    """Return the path of the server's binary; None if it is not installed."""
    return find_server("llama-server", LLAMA_VARIABLE)


class LlamaServer(ServerProcess):
    """Runs during the `with` block. `sees`: the model takes pictures."""

    ready_path = "/v1/models"

    def __init__(self, binary, folder, *, sees):
        super().__init__(binary, folder)
        self._sees = sees
        self.base_url = f"{self.url}/v1"

    def start(self):
        model = write_tiny_gguf(self._folder / "tiny.gguf")
        words = ["-m", model, "--host", "127.0.0.1", "--port", self._port, "-t", 1, "--no-warmup"]
        if self._sees:
            words += ["--mmproj", write_tiny_mmproj(self._folder / "vision.gguf")]
        return self.run(*words, cwd=self._folder)
