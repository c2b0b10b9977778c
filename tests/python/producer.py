#!/usr/bin/python3
# SPDX-License-Identifier: MPL-2.0
"""A cv-mmap producer from the contract page alone: `producer.py TARGET FRAMES`."""

import sys
import time

from publisher import Publisher, Target

target, frames = sys.argv[1:]
publisher = Publisher(Target(target))
for count in range(int(frames)):
    publisher.publish(count, time.time_ns())
    time.sleep(1 / 60)
publisher.close()
