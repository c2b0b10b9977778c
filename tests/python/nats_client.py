#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""A client of a producer's NATS side, from the contract page alone. It runs in the venv of install-readers.sh.

request URL SUBJECT MESSAGE [NAME=VALUE...]   one JSON object: the answer's fields, or why there is none
watch URL SUBJECT...                          a JSON line for each event and body packet
discover URL                                  one JSON object: who answered PING, and their INFO
garbage URL SUBJECT...                        a JSON line for each piece of garbage: what was answered
"""

import argparse
import asyncio
import json

import nats
import nats.errors

import nats_garbage
import nats_wire as wire


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    request = commands.add_parser("request")
    request.add_argument("url")
    request.add_argument("subject")
    request.add_argument("message", choices=sorted(wire.MESSAGES))
    request.add_argument("fields", nargs="*", metavar="NAME=VALUE", help="svo.bitrate=5 within another; a,b for a list")
    request.add_argument("--unknown-fields", action="store_true", help="fields that nobody knows go with it")
    request.add_argument("--timeout", type=float, default=20, metavar="SECONDS")

    watch = commands.add_parser("watch")
    watch.add_argument("url")
    watch.add_argument("subjects", nargs="+")
    watch.add_argument("--count", type=int, help="end after so many")
    watch.add_argument("--full", action="store_true", help="all fields of the bodies")

    discover = commands.add_parser("discover")
    discover.add_argument("url")
    discover.add_argument("--name", default="cvmmap_producer")
    discover.add_argument("--wait", type=float, default=0.5, metavar="SECONDS", help="for more answers to PING")
    discover.add_argument("--timeout", type=float, default=20, metavar="SECONDS", help="for the first of them")

    garbage = commands.add_parser("garbage")
    garbage.add_argument("url")
    garbage.add_argument("subjects", nargs="+")
    garbage.add_argument("--publish", action="store_true", help="no answers are expected")
    garbage.add_argument("--timeout", type=float, default=20, metavar="SECONDS")
    return parser.parse_args()


def say(**what):
    print(json.dumps(what), flush=True)


def parse(kind, text):
    if kind[0] == "*":
        return [parse(kind[1:], item) for item in text.split(",")] if text else []
    kind = kind.lstrip("?")
    if kind == "bool":
        return {"true": True, "false": False}[text]
    return text if kind == "string" else int(text)


def fields_of(message, pairs):
    fields = {}
    for name, text in (pair.split("=", 1) for pair in pairs):
        outer, _, inner = name.partition(".")
        kind = {name: kind for _, name, kind in wire.MESSAGES[message]}[outer]
        if inner:
            fields.setdefault(outer, {}).update(fields_of(kind, [f"{inner}={text}"]))
        else:
            fields[outer] = parse(kind, text)
    return fields


def decoded(subject, data):
    """The fields of a request's answer, or why there are none."""
    message = wire.messages_of(subject)[1]
    try:
        fields = wire.decode_capabilities(data) if message == "CapabilitiesResponse" else wire.decode(message, data)
        return dict(answer=fields)
    except wire.WireError as error:
        return dict(failed="undecodable", reason=str(error), hex=data[:100].hex())


async def ask(client, subject, data, timeout):
    try:
        reply = await client.request(subject, data, timeout=timeout)
    except nats.errors.NoRespondersError:
        return dict(failed="no responders")
    except nats.errors.TimeoutError:
        return dict(failed="timeout")
    service_error = (reply.headers or {}).get("Nats-Service-Error")
    return dict(failed="service error", reason=service_error) if service_error else decoded(subject, reply.data)


async def request(client, options):
    fields = fields_of(options.message, options.fields)
    data = wire.encode(options.message, fields, unknown=options.unknown_fields)
    say(**await ask(client, options.subject, data, options.timeout))


def seen(message, full):
    try:
        if not message.subject.endswith(".body"):
            return dict(event=wire.decode("ModuleStatusEvent", message.data))
        head, bodies = wire.read_packet(message.data)
    except wire.WireError as error:
        return dict(undecodable=str(error), size=len(message.data))
    names = ("id", "tracking_state", "action_state", "keypoint_count", "flags")
    shown = bodies if full else [{name: body[name] for name in names} for body in bodies]
    # Of what the producer in Python sends.
    return dict(header=head, bodies=shown, is_sample=wire.is_sample(message.data))


async def watch(client, options):
    messages = asyncio.Queue()
    for subject in options.subjects:
        await client.subscribe(subject, cb=messages.put)
    await client.flush()
    say(watching=options.subjects)
    count = 0
    while count != options.count:
        message = await messages.get()
        say(subject=message.subject, **seen(message, options.full))
        count += 1


async def discover(client, options):
    inbox = client.new_inbox()
    answers = await client.subscribe(inbox)
    await client.publish(f"$SRV.PING.{options.name}", b"", reply=inbox)
    pings, infos = [], []
    while True:
        try:
            # Whoever is busy answers late; that nobody listens, the server says at once.
            reply = await answers.next_msg(timeout=options.wait if pings else options.timeout)
        except nats.errors.TimeoutError:
            break
        # By an empty message.
        if not reply.data:
            break
        pings.append(json.loads(reply.data))
    for ping in pings:
        try:
            reply = await client.request(f"$SRV.INFO.{options.name}.{ping['id']}", b"", timeout=options.timeout)
            infos.append(json.loads(reply.data))
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError) as error:
            infos.append(dict(id=ping["id"], failed=type(error).__name__))
    say(ping=pings, info=infos)


async def garbage(client, options):
    for subject in options.subjects:
        for kind, data in nats_garbage.kinds(b"").items():
            if options.publish:
                await client.publish(subject, data)
                await client.flush()
                outcome = dict(published=True)
            else:
                outcome = await ask(client, subject, data, options.timeout)
            say(subject=subject, kind=kind, size=len(data), **outcome)


async def main():
    options = arguments()

    async def ignore(_error):
        pass

    # Who watches wants to be back before those who are watched.
    back = dict(reconnect_time_wait=0.02, max_reconnect_attempts=-1)
    client = await nats.connect(options.url, connect_timeout=5, error_cb=ignore, **back)
    try:
        await globals()[options.command](client, options)
    finally:
        await client.close()


asyncio.run(main())
