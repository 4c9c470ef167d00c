#!/bin/sh
# wal_keep.sh PATH NAME FOLDER: PostgreSQL hands over a WAL segment that it has finished.
#
# Ends with 0 only when the segment lies packed in FOLDER, on disk, under its whole name: until then PostgreSQL keeps
# it and asks again. May be killed at any moment. Never overwrites: what is there under that name must be the same.
set -eu
path=$1 name=$2 folder=$3

unpacked() {
  case $1 in
    *.zst) zstd -qdc -- "$1" ;;
    *.gz) gzip -dc -- "$1" ;;
  esac
}

# Left by one that was killed; if it still lives, it fails at its link, and nobody waits for it.
rm -f -- "$folder/.$name".*

for kept in "$folder/$name.zst" "$folder/$name.gz"; do
  [ -e "$kept" ] || continue
  if unpacked "$kept" | cmp -s - "$path"; then
    sync "$kept" "$folder"
    exit 0
  fi
  echo "wal_keep: $kept is there already and holds something else: it is left as it is" >&2
  exit 1
done

partial=$folder/.$name.$$
if command -v zstd >/dev/null; then
  kept=$folder/$name.zst
  nice -n 10 zstd -q -1 -c -- "$path" >"$partial"
else
  kept=$folder/$name.gz
  nice -n 10 gzip -1 -c -- "$path" >"$partial"
fi
sync "$partial"
ln -- "$partial" "$kept" # in one step, and not if there is one
rm -f -- "$partial"
sync "$folder"
