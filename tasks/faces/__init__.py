"""Plain functions from one video file to face crop sequences; alone imports decord, MediaPipe."""
