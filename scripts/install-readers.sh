#!/usr/bin/env bash
# SPDX-License-Identifier: MPL-2.0
# Installs into target/readers what the tests judge us with: for FLV, FFmpeg and PyAV as Python wheels, since Debian 12's
# FFmpeg knows no H.265 in FLV, and the FLV demuxer of mpegts.js; for the control plane, a NATS client with ZeroMQ, and
# MCAP with the schemas of Foxglove; for rectification, OpenCV. Quick when nothing is to be done; any change of this file installs anew.
set -euo pipefail

wheels=(
  imageio-ffmpeg==0.8.1 av==18.1.0
  nats-py==2.16.0 pyzmq==27.3.0
  mcap==1.6.0 mcap-protobuf-support==0.6.0 foxglove-schemas-protobuf==0.4.0
  opencv-python-headless==4.14.0.94 numpy==2.4.6
)
modules=(mpegts.js@1.8.2 esbuild@0.28.2)

self=$(realpath "${BASH_SOURCE[0]}")
scripts=${self%/*}
readers=${scripts%/*}/target/readers

# The stamp is a copy of this file.
ready() {
  cmp -s "$self" "$readers/stamp" && [ -x "$readers/venv/bin/python" ] && [ -x "$readers/ffmpeg" ] &&
    [ -f "$readers/flv-demuxer.mjs" ] && [ -x /usr/sbin/nginx ] && [ -x /usr/sbin/nats-server ] &&
    command -v node >/dev/null
}

# The newest Python on the PATH that can make a venv: a shim may not run, and Debian's can only with python3-venv.
newest_python() {
  local candidate candidates minor newest=-1 python=
  mapfile -t candidates < <(compgen -c python3 | grep -xE 'python3(\.[0-9]+)?' | sort -u)
  while read -r candidate; do
    minor=$("$candidate" -c 'import ensurepip, sys, venv; print(sys.version_info[1])' 2>/dev/null) || continue
    [ "$minor" -gt "$newest" ] || continue
    newest=$minor python=$candidate
  done < <(type -aP "${candidates[@]}")
  [ "$python" ] || { echo "no python3 on the PATH can make a venv" >&2; exit 1; }
  echo "$python"
}

! ready || exit 0
mkdir -p "$readers"
exec 9>"$readers/lock"
flock 9
! ready || exit 0 # another process did it meanwhile

rm -f "$readers/stamp"
"$scripts/install-deps.sh" 9>&-

python=$(newest_python)
echo "installing: ${wheels[*]} for $python"
"$python" -m venv --clear "$readers/venv"
"$readers/venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: "${wheels[@]}"
unset IMAGEIO_FFMPEG_EXE # would be taken instead of the wheel's
ffmpeg=$("$readers/venv/bin/python" -c 'import imageio_ffmpeg as i; print(i.get_ffmpeg_exe())')
ln -sfn "$ffmpeg" "$readers/ffmpeg"

echo "installing: ${modules[*]}"
mkdir -p "$readers/node"
cd "$readers/node"
npm install --loglevel=error --no-audit --no-fund --no-update-notifier --save-exact --prefix . \
  "${modules[@]}" >/dev/null
# The package's bundle does not export its demuxer, hence one of our own.
node_modules/.bin/esbuild --bundle --platform=node --format=esm --log-level=warning \
  --outfile="$readers/flv-demuxer.mjs" <<'JS'
export { default } from 'mpegts.js/src/demux/flv-demuxer.js';
export { default as Log } from 'mpegts.js/src/utils/logger.js';
JS

cp "$self" "$readers/stamp"
