"""What holds for every test."""

import os

from hypothesis import settings

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # more threads than cores make small networks many times slower

settings.register_profile("machine-may-be-busy", deadline=None)
settings.load_profile("machine-may-be-busy")
