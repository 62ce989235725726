# SPDX-License-Identifier: Apache-2.0
"""Audio of every usual format and what is wrong with it: resampled to the same tone, or refused clearly."""

import io
import logging

import numpy
import pytest

from speech_helpers import RATE, tone, write
from transformers_simul.speech.audio import AudioFile, joined, pcm_blocks, read_audio


def loudest(samples):
    """The frequency that is loudest, in Hz."""
    spectrum = numpy.abs(numpy.fft.rfft(samples * numpy.hanning(len(samples))))
    return spectrum.argmax() * RATE / len(samples)


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("kind", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_any_rate_and_sample_format_gives_the_same_tone(tmp_path, rate, kind):
    samples = read_audio(write(tmp_path / "a.wav", tone(1, rate=rate), rate, subtype=kind))
    assert samples.dtype == numpy.float32
    assert abs(len(samples) - RATE) <= 2
    assert abs(loudest(samples) - 440) < 2
    assert numpy.abs(samples[2000:-2000]).max() == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3", "a.aiff"])
def test_containers(tmp_path, name):
    assert abs(loudest(read_audio(write(tmp_path / name, tone(1)))) - 440) < 2


def test_channels_are_mixed_and_blocks_are_the_whole(tmp_path):
    stereo = numpy.stack([tone(1.3, rate=44100), numpy.zeros(57330, "float32")], 1)
    path = write(tmp_path / "a.wav", stereo, 44100)
    with AudioFile(path) as file:
        assert file.duration_s == pytest.approx(1.3)
        blocks = list(file.blocks(0.1))
    assert len(blocks) > 10
    whole = read_audio(path)
    # The resampler gives the same whatever the blocks.
    assert numpy.abs(joined(blocks) - whole).max() < 1e-5
    assert numpy.abs(whole[2000:-2000]).max() == pytest.approx(0.25, abs=0.01)


def test_a_part_of_a_recording(tmp_path):
    ramp = numpy.linspace(-0.5, 0.5, 3 * RATE, dtype="float32")
    path = write(tmp_path / "a.wav", ramp)
    part = read_audio(path, offset_s=1.0, duration_s=0.5)
    assert numpy.abs(part - ramp[RATE : RATE + RATE // 2]).max() < 1e-4
    with pytest.raises(ValueError, match="offset_s must lie in .* of 3.0 s, got 4"):
        read_audio(path, offset_s=4)


def test_what_is_no_audio_is_refused(tmp_path):
    (tmp_path / "text.wav").write_text("no sound")
    with pytest.raises(ValueError, match="audio must be a WAV, FLAC, Ogg or MP3 file, got .*text.wav.*ffmpeg"):
        read_audio(tmp_path / "text.wav")
    (tmp_path / "none.wav").write_bytes(b"")
    with pytest.raises(ValueError, match="must hold at least one sample, but is an empty file"):
        read_audio(tmp_path / "none.wav")
    with pytest.raises(ValueError, match="must hold at least one sample"):
        read_audio(write(tmp_path / "empty.wav", tone(0)))
    with pytest.raises(FileNotFoundError):
        read_audio(tmp_path / "missing.wav")
    with pytest.raises(IsADirectoryError):
        read_audio(tmp_path)
    with pytest.raises(ValueError, match="must consist of finite samples"):
        read_audio(write(tmp_path / "nan.wav", numpy.full(100, numpy.nan, "float32"), subtype="FLOAT"))


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_a_recording_that_was_cut_off_is_used_as_far_as_it_goes_and_told_of(tmp_path, name, caplog):
    whole = write(tmp_path / name, tone(2, 440) + 0.05 * numpy.random.default_rng(0).standard_normal(2 * RATE))
    data = whole.read_bytes()
    whole.write_bytes(data[: len(data) * 2 // 3])
    with caplog.at_level(logging.WARNING):
        samples = read_audio(whole) if name == "a.wav" else joined(AudioFile(whole).blocks(0.25))
    assert 0.5 * RATE < len(samples) < 1.5 * RATE
    assert any(word in caplog.text for word in ("cut off", "damaged after", "ends after"))


def test_a_whole_recording_is_not_called_cut_off(tmp_path, caplog):
    """An odd number of bytes, and a header that was written before the length was known, as into a pipe."""
    odd = write(tmp_path / "odd.wav", tone(1)[:8001], 8000, subtype="PCM_U8")
    piped = write(tmp_path / "piped.wav", tone(1))
    data = bytearray(piped.read_bytes())
    data[4:8] = data[40:44] = b"\xff" * 4
    piped.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert [len(read_audio(path)) for path in (odd, piped)] == [16002, 16000]
    assert not caplog.text
    data[40:44] = (1 << 20).to_bytes(4, "little")
    piped.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert len(read_audio(piped)) == 16000
    assert "is shorter than its header says" in caplog.text


def test_clipped_audio_is_told_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read_audio(write(tmp_path / "a.wav", (5 * tone(1)).clip(-1, 1)))
    assert "clipped" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        read_audio(write(tmp_path / "b.wav", tone(1)))
    assert not caplog.text


class Dribble(io.RawIOBase):
    """Gives a few bytes at a time, as a pipe may."""

    def __init__(self, data, sizes):
        self.data, self.sizes = data, sizes

    def read1(self, count):
        size = min(count, next(self.sizes))
        taken, self.data = self.data[:size], self.data[size:]
        return taken


@pytest.mark.parametrize(
    ("kind", "dtype", "scale"), [("s16le", "<i2", 32767), ("f32le", "<f4", 1), ("s32le", "<i4", 2**31 - 1)]
)
def test_raw_samples_in_any_pieces(kind, dtype, scale):
    samples = tone(0.5)
    data = (samples.astype("float64") * scale).astype(dtype).tobytes()
    draw = numpy.random.default_rng(0)
    sizes = iter(lambda: int(draw.integers(1, 999)), None)
    heard = joined(pcm_blocks(Dribble(data, sizes), 0.1, pcm_format=kind))
    assert numpy.abs(heard - samples).max() < 1e-3


def test_raw_stereo_at_another_rate():
    stereo = numpy.repeat(tone(1, rate=48000)[:, None], 2, 1)
    data = (stereo * 32767).astype("<i2").tobytes()
    assert abs(loudest(joined(pcm_blocks(io.BytesIO(data), 0.1, rate=48000, channels=2))) - 440) < 2


def test_raw_samples_that_are_none(caplog):
    with pytest.raises(ValueError, match="must hold raw samples, but ended before the first"):
        joined(pcm_blocks(io.BytesIO(b""), 0.1))
    assert len(joined(pcm_blocks(io.BytesIO(b"ab"), 0.1))) == 0
    with caplog.at_level(logging.WARNING):
        assert len(joined(pcm_blocks(io.BytesIO(bytes(11)), 0.1))) == 5
    assert "within a sample" in caplog.text
    for data, name in (
        (b"RIFF0000WAVE", "WAV"), (b"fLaC0000", "FLAC"), (b"OggS0000", "Ogg"), (b"\0\0\0\x20ftypisom", "MP4"),
        (b"\x1a\x45\xdf\xa30000", "Matroska or WebM"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"must be raw samples, but begins as a {name} file"):
            list(pcm_blocks(io.BytesIO(data), 0.1))
    with pytest.raises(ValueError, match="pcm_format must be one of u8, s16le"):
        list(pcm_blocks(io.BytesIO(b""), 0.1, pcm_format="s8"))
    with pytest.raises(ValueError, match="rate must be between"):
        list(pcm_blocks(io.BytesIO(b""), 0.1, rate=10))
    with pytest.raises(ValueError, match="channels must be between"):
        list(pcm_blocks(io.BytesIO(b""), 0.1, channels=0))
