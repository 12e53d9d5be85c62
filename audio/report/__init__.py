"""What is wrong with a sound, and what to do about it.

- analysis: everything that is measured, in one reading
- spectrum, channels, clipping, columns: what is measured of frequencies, of channels and of peaks, and for a picture
- findings: what the figures mean
- text, picture: the report in words, and drawn
"""
