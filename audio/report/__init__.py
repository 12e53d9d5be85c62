"""What is wrong with a sound, and what to do about it.

- analysis: everything that is measured, in one reading
- spectrum, channels, clipping: what is measured of the frequencies, of the channels and of the peaks
- columns: what is measured, in the columns of a picture
- findings: what the figures mean
- text: the report in words and as JSON; picture: the report drawn
"""
