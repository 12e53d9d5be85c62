"""The codecs that a video may have, by name: what each takes on the disk, and whether crf chooses its quality.

How each is encoded stands in the room of videos; the room of plans only has to know how large a video will be.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CodecSize:
    """What a codec takes on the disk, with the sound encoder that goes with it.

    Attributes:
        bits_per_pixel: of a talking video, at crf 18 where crf decides.
        frame_bytes: what a frame takes in which nothing moves, with its place in the index: 60 to 90 bytes in mp4.
            ProRes and FFV1 have headers for each of a frame's slices on top.
        sound_bytes_per_s: stereo at 48 kHz: AAC has 96 kbit/s per channel, PCM 24 bits, FLAC no more than the PCM it
            was made from.
        takes_crf: whether the encoder's quality is chosen by crf.
    """

    bits_per_pixel: float
    frame_bytes: int
    sound_bytes_per_s: int
    takes_crf: bool


# Bits per pixel as our encoder settings write them, measured at 832x480 on four clips of 3 s: a person talking
# (InfiniteTalk's example), a sharp portrait that sways, and the same with grain of 1 and 2 levels (standard deviation):
#   h264 crf 18: 0.093 0.080 0.096 0.213   crf 6: 0.51 0.48 1.51 2.49   crf 30: 0.023 0.022 0.022 0.022
#   h265 crf 18: 0.077 0.058 0.078 0.159   crf 6: 0.42 0.38 1.20 2.02   crf 30: 0.018 0.015 0.015 0.015
#   ffv1: 4.4 6.0 8.4 10.2 (noise in every pixel: 26.7)     prores: 5.5 5.8 6.0 6.1 (its ceiling)
# The figures below are about 2.7 times the first two.
CODEC_SIZES = {
    "h264": CodecSize(0.25, 120, 24_000, takes_crf=True),
    "h265": CodecSize(0.20, 120, 24_000, takes_crf=True),
    "ffv1": CodecSize(12.0, 500, 288_000, takes_crf=False),
    "prores": CodecSize(6.2, 2000, 288_000, takes_crf=False),
}
"""The size of each codec that a video may have, by the codec's name."""
