// SPDX-License-Identifier: MPL-2.0

// What mpegts.js's FLV demuxer (of browser players) reads from an FLV file, as JSON.
//
// usage: node tests/readers/mpegts.mjs [--chunk N] FILE

import { readFileSync } from 'node:fs';

// It looks for the browser's bugs.
globalThis.self ??= { navigator: { userAgent: '' } };
const { default: Demuxer, Log } = await import(new URL('../../target/readers/flv-demuxer.mjs', import.meta.url));

const args = process.argv.slice(2);
let chunk = Infinity;
let file;
for (let i = 0; i < args.length; i++) {
    if (args[i] === '--chunk') chunk = Number(args[++i]);
    else file = args[i];
}
if (file === undefined || !(chunk > 0)) {
    console.error('usage: mpegts.mjs [--chunk N] FILE');
    process.exit(2);
}

const facts = { video: null, audio: null, metadata: {}, errors: [], warnings: [] };

for (const level of ['ERROR', 'INFO', 'WARN', 'DEBUG', 'VERBOSE']) Log[`ENABLE_${level}`] = false;
Log.ENABLE_CALLBACK = true;
Log.emitter.on('log', (level, text) => {
    if (level === 'error') facts.errors.push(text);
    if (level === 'warn') facts.warnings.push(text);
});

const CODECS = { avc1: 'h264', hvc1: 'h265', hev1: 'h265', mp4a: 'aac' };

function onTrackMetadata(kind, meta) {
    const codec = CODECS[meta.codec.split('.')[0]] ?? meta.codec;
    const frames = facts[kind]?.frames ?? [];
    // Of several configurations the first counts, as with the other readers. The size is without what is cropped.
    facts[kind] ??= kind === 'video'
        ? { codec, width: meta.presentWidth, height: meta.presentHeight, frames }
        : { codec, rate: meta.audioSampleRate, channels: meta.channelCount, frames };
}

// Takes the samples as the remuxer would. Its times are signed 32 bits, those of the file are not.
function onDataAvailable(audio, video) {
    for (const { dts, length } of audio.samples.splice(0)) facts.audio.frames.push({ dts: dts >>> 0, size: length });
    for (const { dts, cts, isKeyframe, length } of video.samples.splice(0)) {
        facts.video.frames.push({ dts: dts >>> 0, pts: (dts >>> 0) + cts, key: isKeyframe, size: length });
    }
    audio.length = video.length = 0;
}

// As its IO controller: what a call does not consume comes again, with more behind it.
function feed(data) {
    const probe = Demuxer.probe(data.buffer);
    if (!probe.match) {
        facts.errors.push('not FLV');
        return;
    }
    const demuxer = new Demuxer(probe, {});
    demuxer.onError = (type, info) => facts.errors.push(`${type}: ${info}`);
    demuxer.onMediaInfo = () => {};
    demuxer.onMetaDataArrived = (metadata) => Object.assign(facts.metadata, metadata);
    demuxer.onTrackMetadata = onTrackMetadata;
    demuxer.onDataAvailable = onDataAvailable;
    let start = 0;
    for (let end = 0; end < data.length; ) {
        end = Math.min(end + chunk, data.length);
        start += demuxer.parseChunks(data.buffer.slice(start, end), start);
    }
    if (start < data.length) facts.errors.push(`${data.length - start} bytes after the last whole tag`);

    // It holds everything back until each track that the file header or onMetaData promises has a configuration.
    const [audio, video] = [demuxer._audioTrack, demuxer._videoTrack];
    if (demuxer._isInitialMetadataDispatched()) onDataAvailable(audio, video); // a last tag without a frame delays them
    else facts.errors.push(`${video.samples.length + audio.samples.length} frames held back for a promised track`);
}

try {
    feed(new Uint8Array(readFileSync(file)));
} catch (error) {
    facts.errors.push(`exception: ${error.message}`);
}
console.log(JSON.stringify(facts));
