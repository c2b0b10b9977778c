# SPDX-License-Identifier: MPL-2.0
"""What the producers in Python share, from the contract page alone: names, and pictures in shared memory with syncs."""

import mmap
import os
import re
import struct

import zmq

WIDTH, HEIGHT = 160, 120


class Target:
    """The names of a target, `NAME` or `cvmmap://INSTANCE[@PREFIX][?namespace=NS]`, which is not judged."""

    def __init__(self, text):
        matched = re.fullmatch(r"(?:cvmmap://)?([^@?]+)(?:@([^?]+))?(?:\?namespace=(.+))?", text)
        self.instance, prefix, namespace = matched.groups()
        self.prefix, self.namespace = (prefix or "/tmp").rstrip("/"), namespace or "cvmmap"
        self.base = f"{self.namespace}_{self.instance}"
        self.endpoint = f"ipc://{self.prefix}/{self.base}"
        self.key = self.base.replace(".", "_")


class Publisher:
    """BGR pictures of one value; payload, metadata, sync message, in that order."""

    def __init__(self, target):
        self.label = target.instance.encode()
        self.path = f"/dev/shm/{target.base}"
        self.size = WIDTH * HEIGHT * 3
        fd = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o644)
        os.ftruncate(fd, 256 + self.size)
        self.segment = mmap.mmap(fd, 256 + self.size)
        os.close(fd)
        self.socket = zmq.Context.instance().socket(zmq.PUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(target.endpoint)
        self.socket_path = target.endpoint.removeprefix("ipc://")

    def publish(self, count, stamp):
        """`stamp`: in ns; each byte of the picture is `count` modulo 251."""
        self.segment[256:] = bytes([count % 251]) * self.size
        self.segment[:256] = struct.pack(
            "<8sBBxxIQHHBBBxI220x", b"CV-MMAP\0", 1, 0, count, stamp, WIDTH, HEIGHT, 3, 0, 1, self.size
        )
        self.socket.send(struct.pack("<BxBBI8xQ24s", 0x7D, 1, 0, count, stamp, self.label))

    def close(self):
        """Leaves nothing; ZeroMQ would leave the socket's file."""
        self.socket.close()
        os.unlink(self.socket_path)
        os.unlink(self.path)
