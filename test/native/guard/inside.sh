#!/bin/sh
# Runs a command in another root file system that sees some of the host's directories under their own names.
#   inside.sh ROOT DIRECTORY... -- COMMAND...
# Runs in a mount namespace of its own (enter.sh); ROOT is written to.
set -eu
root=$1
shift
while [ "$1" != -- ]; do
  mkdir -p "$root$1"
  mount --rbind "$1" "$root$1"
  shift
done
shift
exec chroot "$root" "$@"
