"""Parsing of ffmpeg's messages, on samples of its output."""

from promptreel.media.decoder_log import DecoderLog, StreamReport, describe_message

DAMAGED = b"""\
[h264 @ 0x55c215291680] [error] error while decoding MB 17 11, bytestream -5
[h264 @ 0x55c215291680] [info] concealing 52 DC, 52 AC, 52 MV errors in B frame
[vist#0:0/h264 @ 0x55c21523eac0] [dec:h264 @ 0x55c215242640] [warning] corrupt decoded frame
[h264 @ 0x55c2152c4280] [error] error while decoding MB 14 10, bytestream -9
[rawvideo @ 0x55b31fdb5140] [error] Application provided invalid, non monotonically increasing dts to muxer in stream 0
[vist#0:0/tiff @ 0x1] [dec:tiff @ 0x2] [error] Task finished with error code: -1145393733 (Error number)
[in#0/mpegts @ 0x55b31fdc3540] [verbose]   Input stream #0:0 (video): 250 packets read (88218 bytes); 249 frames decoded; 1 decode errors;
[in#0/mpegts @ 0x55b31fdc3540] [verbose]   Input stream #0:1 (audio): 434 packets read (62981 bytes); 434 frames decoded; 0 decode errors (444416 samples);
[out#2/nut @ 0x55b31fdc3540] [verbose]   Output stream #2:0 (audio): 434 frames encoded (161241 samples); 434 packets muxed (5 bytes);
"""  # noqa: E501


def parsed(text: bytes, size: int) -> DecoderLog:
    log = DecoderLog()
    for first in range(0, len(text), size):
        log.add(text[first : first + size])
    return log


def test_counts_do_not_depend_on_block_size():
    for size in (1, 7, 4096):
        log = parsed(DAMAGED, size)
        assert (log.errors, log.concealed_frames, log.decode_errors) == (2, 1, 3)
        assert log.streams == {0: StreamReport(250, 249, 1), 1: StreamReport(434, 434, 0)}
        assert log.encoded_samples == 161241


def test_repeated_errors_are_one_message_with_a_count():
    assert parsed(DAMAGED, 4096).summary() == "h264: error while decoding MB N N, bytestream N (x2)"


def test_missing_jpeg_end_is_reported():
    log = parsed(b"[mjpeg @ 0x5] [error] overread 8\n[mjpeg @ 0x5] [warning] EOI missing, emulating\n", 9)
    assert log.jpeg_end_missing
    assert log.decode_errors == 1


def test_clean_output_has_no_errors():
    log = parsed(
        b"[info] Stream mapping:\nnot a message\n[swscaler @ 0x7] [warning] deprecated pixel format used\n", 50
    )
    assert (log.decode_errors, log.summary(), log.error_text()) == (0, "", "")


def test_distinct_messages_are_bounded():
    log = parsed(b"".join(b"[x @ 0x1] [error] fault %s\n" % (bytes([97 + n % 26]) * (n + 1)) for n in range(500)), 999)
    assert log.errors == 500
    assert len(log.error_text().splitlines()) <= 21


def test_addresses_and_numbers_are_masked():
    assert describe_message("[a @ 0x12ab] [b @ 0x3] ", "bad size -3 (Foo @ 0x55)") == "b: bad size N (Foo)"
