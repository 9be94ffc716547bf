"""Frame -> face boxes, tracks and crops.

weights.py      the face detector's weights
detect.py       MediaPipe on one view
views.py        ways to look at a frame: turned, in tiles, within a border
boxes.py        geometry of boxes
follow.py       boxes on frames between two searched frames
track.py        boxes -> people
crop.py         box -> square crop with key points, sharpness, brightness
fingerprint.py  picture -> 32 bytes that a copy shares
aligned.py      ... of faces, whatever their size and slant
"""
