#!/bin/sh
# wal_fetch.sh NAME PATH FOLDER…: a recovering PostgreSQL asks for a WAL segment; the first FOLDER that has it gives it.
#
# Ends with 1 when none has: the recovery has come to the end of what was kept.
set -eu
name=$1 path=$2
shift 2
for folder; do
  if [ -e "$folder/$name.zst" ]; then
    exec zstd -qdc -- "$folder/$name.zst" >"$path"
  elif [ -e "$folder/$name.gz" ]; then
    exec gzip -dc -- "$folder/$name.gz" >"$path"
  elif [ -e "$folder/$name" ]; then
    exec cp -- "$folder/$name" "$path"
  fi
done
exit 1
