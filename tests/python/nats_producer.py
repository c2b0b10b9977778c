#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""A cv-mmap producer with its NATS side, from the contract pages alone. It runs in the venv of install-readers.sh.

Standard output has a JSON line for each request (`request`: its subject) and for each thing done (`did`); read it, or
the producer waits for you once the pipe is full. Pictures never wait for NATS. Commands come in lines:

offline online reset-event   send that event, and do nothing else
reset-count                  the frame count restarts, without an event
reset                        the frame count restarts, and the event comes after the first such frame
reset-before                 the same with the event first
pause resume                 no more pictures, pictures again
stray                        an event and a body packet of another label, on our subjects
quit                         OFFLINE, and the end; SIGTERM does the same
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import threading
import time

import nats
import nats.micro

import nats_garbage
import nats_wire as wire
from nats_answers import Answers, Live, Replay
from publisher import Publisher, Target

EVENTS = {"online": wire.ONLINE, "offline": wire.OFFLINE, "reset-event": wire.STREAM_RESET}
# What waits for a server that does not read; more is dropped, since nats-py would have the pictures wait.
MOST_PENDING = 1 << 20


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("target")
    parser.add_argument("--nats", required=True, metavar="URL")
    parser.add_argument("--dialect", choices=["newer", "older", "both", "newest"], default="both")
    parser.add_argument("--fps", type=int, default=30)
    parser.add_argument("--frames", type=int, help="quit after so many; default: never")
    parser.add_argument("--finite", type=float, metavar="SECONDS", help="a replay of that length, in media time")
    parser.add_argument("--loop", action="store_true", help="the replay begins anew after its end")
    parser.add_argument(
        "--counts-on",
        action="store_true",
        help="a seek leaves the frame count alone; default: it is the sample's number",
    )
    parser.add_argument("--no-end", action="store_true", help="the replay's last stamp is the largest number there is")
    parser.add_argument("--bodies", type=int, default=0, metavar="N", help="so many in a packet for each frame")
    parser.add_argument("--joints", type=int, choices=wire.JOINTS, default=38)
    parser.add_argument(
        "--late-bodies",
        type=int,
        metavar="MS",
        help="packets go out so long after their frame's sync; default: before it",
    )
    parser.add_argument("--untimed-bodies", action="store_true", help="their timestamp_ns is 0")
    parser.add_argument("--slow", type=int, default=0, metavar="MS", help="time until an answer")
    parser.add_argument(
        "--garbage",
        nargs="?",
        const="status,body,answers",
        default="",
        help="garbage beside what is valid on status and body, and in place of answers; default: all three",
    )
    parser.add_argument("--unknown-fields", action="store_true", help="fields that nobody knows in all messages")
    parser.add_argument("--reconnect-wait", type=float, default=0.1, metavar="SECONDS", help="between two attempts")
    parser.add_argument("--no-online", action="store_true", help="no ONLINE at the start")
    parser.add_argument("--no-discovery", action="store_true", help="endpoints without the micro service")
    return parser.parse_args()


def say(**what):
    print(json.dumps(what), flush=True)


class Producer:
    def __init__(self, options):
        self.options = options
        self.target = Target(options.target)
        finite = options.finite is not None
        kinds = (options.loop, options.counts_on, options.no_end)
        self.source = Replay(options.finite, options.fps, *kinds) if finite else Live()
        self.answers = Answers(self.target.key, self.source, options.dialect, options.bodies > 0)
        self.publisher = Publisher(self.target)
        self.client = None
        self.garbage = nats_garbage.endless(wire.encode("ModuleStatusEvent", dict(status=1, instance="x")))
        self.commands, self.late = asyncio.Queue(), set()
        self.events_after_frame = [] if options.no_online else ["online"]
        self.paused = self.ended = self.quitting = False

    # --- NATS ---

    async def send(self, subject, data):
        """Whether it went out, as far as this side can tell."""
        client = self.client
        if client is None or not client.is_connected or client.pending_data_size > MOST_PENDING:
            return False
        await client.publish(subject, data)
        # Lets the client's own task write, so that what is sent before a picture is on its way before it.
        for _ in range(10):
            if client.pending_data_size == 0:
                break
            await asyncio.sleep(0)
        return True

    def subject(self, tail):
        return f"cvmmap.{self.target.key}.{tail}"

    def encoded(self, message, fields):
        return wire.encode(message, fields, unknown=self.options.unknown_fields)

    async def send_event(self, event, instance=None):
        fields = dict(status=EVENTS[event], instance=instance or self.target.instance, timestamp_ns=time.time_ns())
        sent = await self.send(self.subject("status"), self.encoded("ModuleStatusEvent", fields))
        say(did="event", event=event, sent=sent, count=self.source.last_count, **fields)

    def packet(self, count, stamp, label):
        timed = not self.options.untimed_bodies
        return wire.sample_packet(label, count, stamp, self.options.bodies, self.options.joints, timed)

    async def request(self, request):
        tail = self.tails[request.subject]
        try:
            fields = wire.decode(wire.REQUESTS[tail][0], request.data)
            say(request=request.subject, fields=fields)
        except wire.WireError as error:
            fields = None
            say(request=request.subject, error=str(error), size=len(request.data))
        try:
            message, answer = self.answers.answer(tail, fields)
        except Exception as error:
            say(error=f"this producer is wrong: {error!r}")
            raise
        if self.options.slow:
            await asyncio.sleep(self.options.slow / 1000)
        data = next(self.garbage) if "answers" in self.options.garbage else self.encoded(message, answer)
        await request.respond(data)

    def metadata(self):
        target = self.target
        names = dict(instance_name=target.instance, namespace=target.namespace, base_name=target.base)
        names |= dict(shm_name=target.base, zmq_addr=target.endpoint, ipc_prefix=target.prefix)
        names |= dict(nats_target_key=target.key)
        subjects = dict(body_subject=self.subject("body"), status_subject=self.subject("status"))
        return names | subjects | self.answers.prefixes() | dict(backend="python", build_version="0.0.0")

    async def connect(self):
        """Returns once the server has all subscriptions; tries for as long as it takes."""

        async def ignore(_error):
            pass

        async def disconnected():
            say(did="disconnected")

        async def reconnected():
            say(did="reconnected")

        client = await nats.connect(
            self.options.nats,
            max_reconnect_attempts=-1,
            reconnect_time_wait=self.options.reconnect_wait,
            connect_timeout=2,
            error_cb=ignore,
            disconnected_cb=disconnected,
            reconnected_cb=reconnected,
        )
        self.tails = dict(self.answers.subjects())
        if self.options.no_discovery:

            async def answer(message):
                await self.request(nats.micro.Request(message))

            for subject in self.tails:
                await client.subscribe(subject, cb=answer)
        else:
            about = dict(name="cvmmap_producer", version="0.1.0", metadata=self.metadata())
            service = await nats.micro.add_service(client, **about)
            for subject, tail in self.tails.items():
                await service.add_endpoint(name=tail.replace(".", "_"), subject=subject, handler=self.request)
        await client.flush()
        self.client = client
        say(did="connected", subjects=list(self.tails))

    # --- pictures ---

    async def publish_frame(self):
        frame = self.source.next()
        if frame is None:
            if not self.ended:
                say(did="end", count=self.source.last_count, stamp=self.source.last_stamp)
            self.ended = True
            return
        self.ended = False
        count, stamp, new_round = frame
        if "body" in self.options.garbage:
            await self.send(self.subject("body"), next(self.garbage))
        if "status" in self.options.garbage:
            await self.send(self.subject("status"), next(self.garbage))
        data = self.packet(count, stamp, self.target.instance) if self.options.bodies else None
        if data and self.options.late_bodies is None:
            await self.send(self.subject("body"), data)
        self.publisher.publish(count, stamp)
        self.answers.frames += 1
        if self.answers.frames == 1:
            names = dict(key=self.target.key, shm_name=self.target.base, zmq_addr=self.target.endpoint)
            say(did="publishing", **names)
        if data and self.options.late_bodies is not None:
            task = asyncio.create_task(self.send_late(data))
            self.late.add(task)
            task.add_done_callback(self.late.discard)
        if new_round:
            say(did="loop")
            await self.send_event("reset-event")
        await self.send_events_after_frame()

    async def send_late(self, data):
        await asyncio.sleep(self.options.late_bodies / 1000)
        await self.send(self.subject("body"), data)

    async def send_events_after_frame(self):
        # The first ONLINE waits for the server, without the pictures waiting for it.
        if self.client is not None and self.client.is_connected:
            events, self.events_after_frame = self.events_after_frame, []
            for event in events:
                await self.send_event(event)

    async def obey(self, command):
        if command in EVENTS:
            await self.send_event(command)
        elif command in ("reset", "reset-count", "reset-before"):
            if command == "reset-before":
                await self.send_event("reset-event")
            self.source.count = 0
            if command == "reset":
                self.events_after_frame.append("reset-event")
            say(did=command, count=self.source.last_count)
        elif command in ("pause", "resume"):
            self.paused = command == "pause"
            say(did=command, count=self.source.last_count)
        elif command == "stray":
            await self.send_event("reset-event", "somebody-else")
            packet = wire.sample_packet("somebody-else", self.source.last_count, self.source.last_stamp, 1)
            await self.send(self.subject("body"), packet)
            say(did="stray")
        elif command == "quit":
            self.quitting = True
        else:
            say(error=f"no such command: {command}")

    def listen(self, loop):
        """A thread of its own, since asyncio cannot wait for files such as /dev/null."""

        def obey(line):
            loop.call_soon_threadsafe(self.commands.put_nowait, line.decode().strip())

        def read():
            rest = b""
            while data := os.read(0, 4096):
                *lines, rest = (rest + data).split(b"\n")
                for line in filter(None, lines):
                    obey(line)

        threading.Thread(target=read, daemon=True).start()

    async def publish_frames(self, loop, connecting):
        tick = loop.time()
        while not self.quitting and self.answers.frames != self.options.frames:
            while not self.commands.empty():
                await self.obey(self.commands.get_nowait())
            if not self.paused:
                await self.publish_frame()
            tick = max(tick + 1 / self.options.fps, loop.time() - 1)
            await asyncio.sleep(max(0, tick - loop.time()))
            if connecting.done():
                connecting.result()

    async def run(self):
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: self.commands.put_nowait("quit"))
        self.listen(loop)
        connecting = asyncio.create_task(self.connect())
        try:
            await self.publish_frames(loop, connecting)
            await self.send_event("offline")
        finally:
            self.publisher.close()
        connecting.cancel()
        if self.client is not None and self.client.is_connected:
            try:
                await asyncio.wait_for(self.client.flush(), 2)
            except (asyncio.TimeoutError, nats.errors.Error):
                pass
        say(did="quit", frames=self.answers.frames, count=self.source.last_count, stamp=self.source.last_stamp)
        # What the client would still do, it would do for as long as the server likes.
        sys.stdout.flush()
        os._exit(0)


async def main():
    await Producer(arguments()).run()


asyncio.run(main())
