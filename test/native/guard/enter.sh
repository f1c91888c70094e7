#!/bin/sh
# Makes a private /run with the given share directories below /run/hami, as a container has them, and runs a command there.
#   enter.sh [--writable] [DIRECTORY...] -- COMMAND...
# Each directory is mounted under its own name: what it holds as `limits` read-only, what it holds as `usage` or `mps` writable.
set -eu
writable=
if [ "$1" = --writable ]; then
  writable=yes
  shift
fi
mount -t tmpfs tmpfs /run
mkdir /run/hami
while [ "$1" != -- ]; do
  inside=/run/hami/$(basename "$1")
  mkdir "$inside"
  for file in limits usage; do
    [ -e "$1/$file" ] || continue
    : >"$inside/$file"
    mount --bind "$1/$file" "$inside/$file"
  done
  if [ -d "$1/mps" ]; then
    mkdir "$inside/mps"
    mount --bind "$1/mps" "$inside/mps"
  fi
  [ -n "$writable" ] || [ ! -e "$1/limits" ] || mount -o remount,bind,ro "$inside/limits"
  shift
done
shift
exec "$@"
