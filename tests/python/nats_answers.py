# SPDX-License-Identifier: MPL-2.0
"""What the producer in Python is a producer of, and what it answers over NATS. No network here."""

import bisect
import os
import time

import nats_wire as wire

SINGLE_LIMITS = {setting: (-1, 100) for setting in range(1, 10)} | {4: (2800, 6500)}
RANGE_LIMITS = {10: (28, 66_000), 11: (1000, 16_000), 12: (1, 256)}


class Live:
    """Frames that are stamped with the time of day."""

    last_count = last_stamp = 0

    def __init__(self):
        self.count = 0

    def next(self):
        """Count and stamp of the next frame, and whether a new round begins with it; None: there is none."""
        self.last_count, self.last_stamp = self.count, time.time_ns()
        self.count += 1
        return self.last_count, self.last_stamp, False

    def info(self):
        return dict(source_kind=wire.LIVE, timestamp_domain=wire.UNIX_TIME, flags=0)


class Replay:
    """Frames of a recording from 0 s to its end, both included, in media time."""

    last_count = last_stamp = 0

    def __init__(self, seconds, fps, loop, counts_on, no_end):
        self.stamps = [frame * 1_000_000_000 // fps for frame in range(int(seconds * fps) + 1)]
        if no_end:
            self.stamps[-1] = (1 << 64) - 1
        self.loop, self.counts_on = loop, counts_on
        self.count = self.at = 0

    def next(self):
        new_round = self.at == len(self.stamps)
        if new_round:
            if not self.loop:
                return None
            self.count = self.at = 0
        self.last_count, self.last_stamp = self.count, self.stamps[self.at]
        self.count, self.at = self.count + 1, self.at + 1
        return self.last_count, self.last_stamp, new_round

    def info(self):
        flags = wire.AUTO_LOOP | wire.LOOP_EMITS_RESET if self.loop else 0
        end = self.stamps[-1]
        timeline = dict(timeline_start_ns=0, timeline_end_ns=end, duration_ns=end)
        return dict(source_kind=wire.FINITE, timestamp_domain=wire.MEDIA_TIME, flags=flags, **timeline)

    def seek(self, target):
        """The first sample at or after the target, None past the end."""
        at = bisect.bisect_left(self.stamps, target)
        if at == len(self.stamps):
            return None
        self.at = at
        if not self.counts_on:
            self.count = at
        return self.stamps[at], self.count


class Recorder:
    """Counts frames, and writes nothing."""

    def __init__(self, form):
        self.form, self.path, self.since = form, "", None

    def status(self, frames, error=wire.OK, message=""):
        counted = frames - self.since if self.since is not None else 0
        states = dict(can_record=True, is_recording=self.since is not None, last_frame_ok=self.since is not None)
        counts = dict(frames_ingested=counted, frames_encoded=counted)
        return dict(error=error, format=self.form, active_path=self.path, error_message=message, **states, **counts)

    def start(self, frames, path):
        if self.since is not None:
            return self.status(frames, wire.ERROR, f"busy with {self.path}")
        if not path:
            return self.status(frames, wire.INVALID_PAYLOAD, "output_path is empty")
        if not os.access(os.path.dirname(path), os.W_OK):
            return self.status(frames, wire.ERROR, f"{path} is not in a writable folder")
        self.path, self.since = path, frames
        return self.status(frames)

    def stop(self, frames):
        if self.since is None:
            return self.status(frames, wire.ERROR, "not recording")
        answer = self.status(frames) | dict(is_recording=False)
        self.path, self.since = "", None
        return answer


class Answers:
    """`dialect`: newer, older, both or newest, which is newer without seek and capabilities of the source."""

    def __init__(self, key, source, dialect, bodies):
        self.key, self.source, self.dialect, self.bodies = key, source, dialect, bodies
        self.frames = 0
        self.recorders = {"svo": Recorder(wire.SVO), "mcap": Recorder(wire.MCAP)}
        self.playlist = dict(has_playlist=False)
        self.camera = {setting: dict(value=high // 2) for setting, (_, high) in SINGLE_LIMITS.items()}
        self.camera |= {setting: dict(min_value=low, max_value=high) for setting, (low, high) in RANGE_LIMITS.items()}

    def prefixes(self):
        """Metadata key -> subject prefix."""
        newer, older = self.dialect != "older", self.dialect in ("older", "both")
        prefixes = {"producer_subject_prefix": f"cvmmap.{self.key}.producer"} if newer else {}
        return prefixes | ({"control_subject_prefix": f"cvmmap.{self.key}.control"} if older else {})

    def subjects(self):
        """Each subject that is answered, and its tail."""
        lacking = {"source.seek", "source.capabilities"} if self.dialect == "newest" else set()
        for name, prefix in self.prefixes().items():
            other = "recorder.mcap." if name == "producer_subject_prefix" else "camera_control."
            for tail in wire.REQUESTS:
                if tail not in lacking and not tail.startswith((other, "recorder.mp4.")):
                    yield f"{prefix}.{tail}", tail

    def answer(self, tail, fields):
        """The answer's message and fields; `fields` None: the request could not be decoded."""
        message = wire.REQUESTS[tail][1]
        if self.dialect == "newest" and message == "CapabilitiesResponse":
            message = "NewestCapabilitiesResponse"
        if fields is None:
            return message, dict(error=wire.INVALID_PAYLOAD)
        area, _, what = tail.partition(".")
        return message, getattr(self, f"_{area}")(what, fields)

    def _source(self, what, fields):
        if what == "reset":
            self.source.count = 0
            return dict(error=wire.OK)
        if what == "info":
            return self._info()
        if what == "seek":
            return self._seek(fields["target_timestamp_ns"])
        if what == "capabilities":
            return self._capabilities([wire.SVO, wire.MCAP])
        return self._playlist(what, fields)

    def _can_seek(self):
        return isinstance(self.source, Replay) and self.dialect != "newest"

    def _info(self):
        info = self.source.info()
        info["flags"] |= wire.CAN_RECORD | (wire.CAN_SEEK if self._can_seek() else 0)
        info["flags"] |= wire.HAS_BODY if self.bodies else 0
        current = dict(current_timestamp_ns=self.source.last_stamp, current_frame_count=self.source.last_count)
        return dict(error=wire.OK, **info, **current)

    def _seek(self, target):
        if not self._can_seek():
            return dict(error=wire.UNSUPPORTED, requested_timestamp_ns=target)
        landed = self.source.seek(target)
        if landed is None:
            return dict(error=wire.OUT_OF_RANGE, requested_timestamp_ns=target)
        stamp, count = landed
        landing = dict(landed_timestamp_ns=stamp, landed_frame_count=count, exact_match=stamp == target)
        return dict(error=wire.OK, requested_timestamp_ns=target, **landing)

    def _capabilities(self, formats):
        seek = {} if self.dialect == "newest" else dict(can_seek=self._can_seek())
        return dict(error=wire.OK, available_recording_formats=formats, **seek)

    def _playlist(self, what, fields):
        if what == "playlist.apply":
            paths = fields["paths"]
            if not isinstance(self.source, Replay):
                return dict(error=wire.UNSUPPORTED, error_message="a live source has no playlist")
            if not paths or "" in paths:
                return dict(error=wire.INVALID_PAYLOAD, error_message="a path is missing")
            paths = sorted(paths) if fields["sort"] else paths
            self.playlist = dict(has_playlist=True, paths=paths, sort_by_recording_time=fields["sort"])
            self.playlist |= dict(current_index=0, current_path=paths[0])
        return dict(error=wire.OK, info=self.playlist)

    def _camera_control(self, what, fields):
        if what == "capabilities":
            return dict(error=wire.OK, supported=True, supported_settings=sorted(self.camera))
        setting = fields["setting"]
        limits = {"get": self.camera, "set": SINGLE_LIMITS, "set_range": RANGE_LIMITS}[what]
        if setting not in limits:
            return dict(error=wire.UNSUPPORTED, error_message=f"no such setting here: {setting}")
        if what != "get":
            asked = {name: fields[name] for name in ("value", "min_value", "max_value") if name in fields}
            if fields.get("mode") == 2:
                asked["value"] = -1
            low, high = limits[setting]
            values = list(asked.values())
            if values != sorted(values) or values[0] < low and fields.get("mode") != 2 or values[-1] > high:
                return dict(error=wire.OUT_OF_RANGE, error_message=f"{values} is not within {low} to {high}")
            self.camera[setting] = asked
        kind = wire.RANGE if setting in RANGE_LIMITS else wire.SINGLE
        return dict(error=wire.OK, state=dict(setting=setting, kind=kind, **self.camera[setting]))

    def _recorder(self, what, fields):
        kind, _, verb = what.partition(".")
        recorder = self.recorders[kind]
        if verb == "capabilities":
            return self._capabilities([recorder.form])
        if verb == "start":
            return recorder.start(self.frames, fields["output_path"])
        return recorder.stop(self.frames) if verb == "stop" else recorder.status(self.frames)
