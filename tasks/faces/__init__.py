"""One video file -> face crop sequences; only this room imports decord and MediaPipe.

video.py      one video: probe, plan, search, cut into sequences
image.py      one still picture
search.py     passes over a video that find its faces and cut them out
decoding      video or picture file -> chosen frames
detection     frame -> face boxes, tracks and crops
worker.py     code of a decode process: limits, detector, one video at a time
apart.py      one call in a process of its own
perturb.py    a change of a video before the search
stopwatch.py  CPU time of the stages
"""
