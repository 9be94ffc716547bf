"""Video or picture file -> chosen frames, identical to those of a full decode.

probe.py       packet index: the frames that a player would show
bitstream.py   dependencies between packets
plan.py        which frames are wanted, and which packets give them
damage.py      which pictures may show what the decoder made up
decode.py      the chosen frames, from PyAV or decord
image_file.py  still pictures
stills.py      a few frames for people
reencode.py    one profile for all videos
rewrite.py     a new file with other compression or in another container
"""
