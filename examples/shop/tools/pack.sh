#!/bin/bash
# Pack a folder: pack.sh FOLDER FILE.tar.gz. The same content gives the same bytes.
set -euo pipefail
mkdir -p "$(dirname "$2")"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 --exclude=__pycache__ --exclude=.git -C "$1" -cf - . | gzip -n >"$2"
